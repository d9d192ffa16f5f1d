"""Many scans with one model; a failure costs only its own case.

While the network works on one scan, the next is read and the outputs of the last are written, each by a thread of its
own; so up to three scans are in memory.
"""

import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from stunet.errors import UserError
from stunet.files import made_folder
from stunet.imaging.formats.table import read_volume
from stunet.imaging.volume import Volume
from stunet.inference.cases import Case
from stunet.inference.outputs import Outputs, write_outputs
from stunet.inference.predictor import Predictor
from stunet.inference.segmentation import Segmentation
from stunet.inference.sliding import OnWindow

Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        case: which.
        output: the written labels; None where it failed.
        segmentation: the result; None where it failed or was there already.
        error: a sentence; None where all went well.
        is_our_fault: the error is a fault of stunet's and not of the input.
    """

    case: Case
    output: Path | None = None
    segmentation: Segmentation | None = None
    error: str | None = None
    is_our_fault: bool = False


def predict_cases(
    predictor: Predictor,
    cases: Sequence[Case],
    output_folder: Path,
    outputs: Outputs = Outputs(),  # noqa: B008 (frozen)
    resume: bool = False,
    on_window: OnWindow | None = None,
) -> Iterator[Outcome]:
    """Segment one case after the other and write `output_folder/<case>.nii.gz`, or what `outputs` says.

    Whatever happens to one case, the others are segmented.

    Args:
        predictor: the model.
        cases: the scans.
        output_folder: made where missing.
        outputs: what to write.
        resume: leave the cases alone whose labels are there; labels appear last and whole.
        on_window: see `Predictor.predict`; told of the case that is segmented now.

    Yields:
        One outcome for each case, in their order, as soon as its files are written.
    """
    made_folder(output_folder)
    places = {case: outputs.main_path(output_folder, case.name) for case in cases}
    done = {case for case, place in places.items() if resume and place.exists()}
    made = _overlapped(predictor, [item for item in places.items() if item[0] not in done], outputs, on_window)
    for case, place in places.items():
        yield Outcome(case, place) if case in done else next(made)


def _overlapped(
    predictor: Predictor, to_do: Sequence[tuple[Case, Path]], outputs: Outputs, on_window: OnWindow | None
) -> Iterator[Outcome]:
    """Read ahead, segment, and write behind."""
    with ThreadPoolExecutor(1, "stunet-read") as reader, ThreadPoolExecutor(1, "stunet-write") as writer:
        reading = [reader.submit(_read, case) for case, _ in to_do[:1]]
        writing: Future[Outcome] | None = None
        for number, (case, place) in enumerate(to_do):
            scan = _attempt(case, reading.pop().result)
            reading += [reader.submit(_read, following) for following, _ in to_do[number + 1 : number + 2]]
            probabilities = outputs.probability_folder(place)
            done = (
                scan if isinstance(scan, Outcome) else _attempt(case, predictor.predict, scan, on_window, probabilities)
            )
            if writing is not None:
                yield writing.result()
            writing = writer.submit(_write, case, done, place, outputs)
        if writing is not None:
            yield writing.result()


def _read(case: Case) -> Volume:
    return read_volume(case.files if len(case.files) > 1 else case.files[0])


def _write(case: Case, done: Segmentation | Outcome, place: Path, outputs: Outputs) -> Outcome:
    """Pass a failure on; else write."""
    if isinstance(done, Outcome):
        return done
    written = _attempt(case, write_outputs, done, place, outputs, case.name)
    return written if isinstance(written, Outcome) else Outcome(case, place, done)


def _attempt(case: Case, function: Callable[..., Result], *arguments: Any) -> Result | Outcome:
    """What the function gives, or the outcome that says why it gave nothing."""
    try:
        return function(*arguments)
    except UserError as error:
        return Outcome(case, error=str(error))
    except Exception:  # one case must not cost the others; the traceback is kept and reported
        return Outcome(case, error=traceback.format_exc(), is_our_fault=True)
