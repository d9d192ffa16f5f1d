"""Many scans from Python: name the model, the scans and a folder, and get one result for each scan."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Event

from stunet.batch import predict_cases as cases
from stunet.batch.find_scans import Case, find_cases, is_folder_of_scans, scan_name
from stunet.batch.outputs import Outputs
from stunet.errors import FileError, UserError
from stunet.files import made_folder
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.inference.sliding import OnWindow
from stunet.inference.stopping import stoppable
from stunet.weights.model import Model

ScanFiles = str | Path | Sequence[str | Path]
"""A file, a folder with one DICOM series, or a list of these with one for each channel."""


def predict_cases(
    model: Predictor | Model | str | Path,
    scans: str | Path | Iterable[ScanFiles],
    folder: str | Path,
    *,
    config: InferenceConfig | None = None,
    outputs: Outputs = Outputs(),  # noqa: B008 (frozen)
    resume: bool = False,
    on_window: OnWindow | None = None,
    stop: Event | None = None,
) -> Iterator[cases.CaseResult]:
    """Segment many scans and write their labels, as `stunet predict` does with a folder.

    While the network works on one scan, the next is read and the labels of the last are written. A scan that cannot be
    segmented costs no other: its result has an `error`, a sentence.

    Args:
        model: a predictor, or what it takes. A model is loaded when the first scan has been read; for a folder of
            scans at once, since it says how many channels a scan has.
        scans: a folder of scans, or a list. Each of its elements is a file, a folder with one DICOM series, or a list
            of these with one for each channel.
        folder: where labels are written, `NAME.nii.gz` for each scan; made where missing.
        config: how to predict; not together with a predictor, which has its own.
        outputs: what else to write.
        resume: skip scans that already have labels.
        on_window: called after each window with the number of windows done in the present scan and their total. If it
            raises `stunet.errors.Stopped` all ends; anything else that it raises is the error of its scan.
        stop: set it from another thread to end after the present window.

    Returns:
        An iterator that segments as it is asked for results: one for each scan, in order, once its files are written.

    Raises:
        UserError: no scans, two scans of one name, a configuration besides a predictor, or a folder that cannot be
            made. While it iterates: a model that cannot be loaded.
        Stopped: while it iterates, `stop` was set. Results that were handed out stay.
    """
    if isinstance(model, Predictor) and config is not None:
        raise UserError("A predictor has a configuration already; give a model with a configuration, or a predictor.")

    @cache
    def load() -> Predictor:
        """The predictor, made once."""
        return model if isinstance(model, Predictor) else Predictor(model, config)

    destinations = _destinations(scans, Path(folder), outputs, lambda: len(load().model.card.channels))
    made_folder(Path(folder))
    told = on_window if stop is None else stoppable(stop, on_window)
    return cases.predict_cases(load, destinations, outputs, resume, told)


def _destinations(
    scans: str | Path | Iterable[ScanFiles], folder: Path, outputs: Outputs, channels: Callable[[], int]
) -> dict[Case, Path]:
    """For each case the path of its labels."""
    found = _found(scans, channels)
    if not found:
        raise FileError(f"There are no scans to segment in {scans}.")
    destinations = {case: outputs.main_path(folder, case.name) for case in found}
    names = [case.name for case in found]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        raise FileError(f"Two scans have one name, {min(doubled)!r}, so their labels would be one file; rename one.")
    return destinations


def _found(scans: str | Path | Iterable[ScanFiles], channels: Callable[[], int]) -> list[Case]:
    """The cases; only in a folder are channels joined by their names, for which the model's number is asked."""
    if isinstance(scans, str | Path):
        return find_cases(Path(scans), channels()) if is_folder_of_scans(Path(scans)) else [_case(scans)]
    return [_case(scan) for scan in scans]


def _case(scan: ScanFiles) -> Case:
    paths = (scan,) if isinstance(scan, str | Path) else tuple(scan)
    if not paths:
        raise FileError("A scan has no files; give one for each channel of the model.")
    files = tuple(map(Path, paths))
    return Case(scan_name(files[0]), files)
