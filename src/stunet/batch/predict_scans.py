"""Segment many scans from Python: pass a model, scans and a folder, and get one result per scan."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, TypeAlias, Union

from stunet.batch import predict_cases as cases
from stunet.batch.dicom_scans import DicomChoice, dicom_scans, is_dicom_input
from stunet.batch.find_scans import Case, find_cases, is_folder_of_scans, scan_name
from stunet.batch.named_scans import dicom_left_out
from stunet.batch.outputs import Outputs
from stunet.errors import FileError, UserError
from stunet.files import made_folder
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.inference.sliding import OnWindow
from stunet.inference.stopping import stoppable
from stunet.weights.model import Model

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.series import Series

logger = logging.getLogger(__name__)

ScanFiles: TypeAlias = Union[str, Path, "Series", Sequence[Union[str, Path, "Series"]]]
"""A file, a folder or zip with DICOM, a DICOM series, or a list of these with one per channel."""


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
    """Segment many scans and write their labels, as `stunet predict` does for a folder.

    While the network segments one scan, the next one is read and the labels of the previous one are written. A scan
    that cannot be segmented does not stop the others: its result has an `error`, a sentence.

    Args:
        model: a predictor, or anything a predictor accepts. A model is loaded when the first scan has been read; for a
            folder of scans it is loaded at once, because its number of channels is needed.
        scans: a folder of scans, or a list. Each element is a file, a folder or zip with DICOM, a DICOM series
            (`stunet.find_series`), or a list of these with one per channel. From a folder with DICOM, the only or
            clearly best series of each study is used.
        folder: where labels are written, `NAME.nii.gz` for each scan; created if missing.
        config: how to predict; not allowed with a predictor, which has its own.
        outputs: what else to write.
        resume: skip scans that already have labels.
        on_window: called after each window with the number of windows done in the current scan and their total. If it
            raises `stunet.errors.Stopped`, everything stops; any other exception becomes the error of its scan.
        stop: set it from another thread to stop after the current window.

    Returns:
        An iterator that works on demand. It yields one result per scan, in order, once its files are written.

    Raises:
        UserError: no scans, two scans of one name, a configuration besides a predictor, or a folder that cannot be
            created. During iteration: a model that cannot be loaded.
        Stopped: during iteration, `stop` was set. Earlier results are kept.
    """
    if isinstance(model, Predictor) and config is not None:
        raise UserError("A predictor has a configuration already; give a model with a configuration, or a predictor.")

    @cache
    def load() -> Predictor:
        """The predictor, created once."""
        return model if isinstance(model, Predictor) else Predictor(model, config)

    destinations = _destinations(scans, Path(folder), outputs, lambda: load().model.card.channels)
    made_folder(Path(folder))
    told = on_window if stop is None else stoppable(stop, on_window)
    return cases.predict_cases(load, destinations, outputs, resume, told)


def _destinations(
    scans: str | Path | Iterable[ScanFiles], folder: Path, outputs: Outputs, channels: Callable[[], Sequence[str]]
) -> dict[Case, Path]:
    """Case -> path of its labels."""
    found = _found(scans, channels)
    if not found:
        raise FileError(f"There are no scans to segment in {scans}.")
    destinations = {case: outputs.main_path(folder, case.name) for case in found}
    for path in destinations.values():
        outputs.require_short_names(path)
    first = {case.name: case for case in reversed(found)}
    for case in found:
        if case is not first[case.name]:
            both = f"{first[case.name].files[0]} and {case.files[0]}"
            raise FileError(f"{both} have one name, {case.name!r}, so their labels would be one file; rename one.")
    return destinations


def _found(scans: str | Path | Iterable[ScanFiles], channels: Callable[[], Sequence[str]]) -> list[Case]:
    """The cases. Only in a folder are channels joined by name, which needs the model's number of channels."""
    if not isinstance(scans, str | Path):
        return [_case(scan) for scan in scans]
    path = Path(scans)
    for sentence in dicom_left_out([path]):
        logger.warning(sentence)
    if path.exists() and is_dicom_input(path, DicomChoice(), into_folder=True):
        found = dicom_scans(path, DicomChoice(), lambda: channels()[0], into_folder=True)
        return [Case(one.name, (one.path,)) for one in found]
    return find_cases(path, len(channels())) if is_folder_of_scans(path) else [_case(scans)]


def _case(scan: ScanFiles) -> Case:
    if isinstance(scan, str | Path):
        return Case(scan_name(Path(scan)), (Path(scan),))
    if not isinstance(scan, Sequence):
        return Case(f"{scan.folder.name}_series{scan.number}", (scan,))
    if not scan:
        raise FileError("A scan has no files; give one for each channel of the model.")
    files = tuple(Path(one) if isinstance(one, str) else one for one in scan)
    return Case(_case(files[0]).name, files)
