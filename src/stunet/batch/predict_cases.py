"""Segment one case after the other: the only road from files to written labels, for one case as for many.

While the network works on one scan, the next is read and the outputs of the last are written, each by a thread of its
own; so up to three scans are in memory. The first scan is read while torch loads.
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stunet.batch.find_scans import Case
from stunet.batch.outputs import Outputs, write_outputs
from stunet.errors import FileError, Stopped, UserError
from stunet.files import made_folder
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.inference.sliding import OnWindow

Result = TypeVar("Result")


@dataclass(frozen=True)
class CaseResult:
    """What became of a case.

    Attributes:
        case: which.
        output: the written labels; None where it failed.
        segmentation: the result; None where it failed or was there already.
        files: all that was written, the labels first; empty where nothing was.
        error: a sentence; None where all went well.
        is_internal_error: the error is stunet's own and not one of the input.
    """

    case: Case
    output: Path | None = None
    segmentation: Segmentation | None = None
    files: tuple[Path, ...] = ()
    error: str | None = None
    is_internal_error: bool = False

    @property
    def is_kept(self) -> bool:
        """All its outputs were there already."""
        return self.segmentation is None and self.error is None


def predict_cases(
    load_predictor: "Callable[[], Predictor]",
    destinations: Mapping[Case, Path],
    outputs: Outputs = Outputs(),  # noqa: B008 (frozen)
    resume: bool = False,
    on_window: "OnWindow | None" = None,
    keep_going: bool = True,
) -> Iterator[CaseResult]:
    """Segment each case and write its labels, and what else `outputs` says.

    Args:
        load_predictor: gives the predictor, always the same; called when the first scan has been read.
        destinations: for each case the path of its labels, see `Outputs.main_path`; folders are made where missing.
        outputs: what to write.
        resume: skip cases of which all outputs are there. Labels are written last, and whole.
        on_window: see `Predictor.predict`; told of the case that is segmented now.
        keep_going: whatever happens to one case, the others are segmented. Otherwise the first error is raised.

    Yields:
        One result for each case, in their order, as soon as its files are written.

    Raises:
        UserError: a folder that cannot be made; without `keep_going` also what is wrong with a case.
        Stopped: whatever raises it, such as `on_window`; it ends the batch.
    """
    done = _finished(load_predictor, destinations, outputs) if resume else set()
    to_do = [(case, place) for case, place in destinations.items() if case not in done]
    made = _overlapped(load_predictor, to_do, outputs, on_window, partial(_attempt, keep_going))
    for case, place in destinations.items():
        yield CaseResult(case, place) if case in done else next(made)


def _finished(
    load_predictor: "Callable[[], Predictor]", destinations: Mapping[Case, Path], outputs: Outputs
) -> set[Case]:
    """The cases of which every output is there."""
    structures = load_predictor().names
    return {
        case for case, place in destinations.items() if all(path.exists() for path in outputs.paths(place, structures))
    }


def _overlapped(
    load_predictor: "Callable[[], Predictor]",
    to_do: list[tuple[Case, Path]],
    outputs: Outputs,
    on_window: "OnWindow | None",
    attempt: Callable[..., Any],
) -> Iterator[CaseResult]:
    """Read ahead, segment, and write behind."""
    with ThreadPoolExecutor(1, "stunet-read") as reader, ThreadPoolExecutor(1, "stunet-write") as writer:
        reading = [reader.submit(_read, case) for case, _ in to_do[:1]]
        import stunet.inference.predictor  # noqa: F401 (torch takes a second to load, and so does a scan)

        writing: Future[CaseResult] | None = None
        for number, (case, place) in enumerate(to_do):
            done = attempt(case, reading.pop().result)
            reading += [reader.submit(_read, following) for following, _ in to_do[number + 1 : number + 2]]
            if not isinstance(done, CaseResult):
                predictor = load_predictor()
                made_folder(place.parent)
                done = attempt(case, predictor.predict, done, on_window, outputs.probability_folder(place))
            if writing is not None:
                yield writing.result()
            writing = writer.submit(_write, case, done, place, outputs, attempt)
        if writing is not None:
            yield writing.result()


def _read(case: Case) -> Volume:
    if case.problem is not None:
        raise FileError(case.problem)
    return read_volume(case.files if len(case.files) > 1 else case.files[0])


def _write(
    case: Case, done: Segmentation | CaseResult, place: Path, outputs: Outputs, attempt: Callable[..., Any]
) -> CaseResult:
    """Pass a failure on; else write."""
    if isinstance(done, CaseResult):
        return done
    written = attempt(case, write_outputs, done, place, outputs, case.name)
    return written if isinstance(written, CaseResult) else CaseResult(case, place, done, tuple(written))


def _attempt(keep_going: bool, case: Case, function: Callable[..., Result], *arguments: Any) -> Result | CaseResult:
    """What the function gives, or the result that says why it gave nothing."""
    try:
        return function(*arguments)
    except Stopped:
        raise
    except Exception as error:  # one case must not cost the others; a traceback is kept and reported
        if not keep_going:
            raise
        if isinstance(error, UserError):
            return CaseResult(case, error=str(error))
        return CaseResult(case, error=traceback.format_exc(), is_internal_error=True)
