"""Segment cases one after the other. All predictions from files to written labels go through here.

While the network segments one scan, other threads read the next one and write the outputs of the previous one. So up to
three scans are in memory. The first scan is read while torch loads.
"""

import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from stunet.batch.find_scans import Case
from stunet.batch.outputs import Outputs, write_outputs
from stunet.errors import FileError, Stopped, UserError
from stunet.files import made_folder
from stunet.imaging.scan import as_volume
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation
from stunet.memory import explaining_full_main_memory

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.inference.sliding import OnWindow

Result = TypeVar("Result")


@dataclass(frozen=True)
class CaseResult:
    """The result of a case.

    Attributes:
        case: the case.
        output: the written labels; None if it failed.
        segmentation: the result; None if it failed or already existed.
        files: all written files, labels first; empty if there are none.
        error: a sentence; None on success.
        is_internal_error: whether the error is a bug in stunet rather than bad input.
        kind: the class of the error, see `stunet.errors`; None on success.
    """

    case: Case
    output: Path | None = None
    segmentation: Segmentation | None = None
    files: tuple[Path, ...] = ()
    error: str | None = None
    is_internal_error: bool = False
    kind: str | None = None

    @property
    def is_kept(self) -> bool:
        """Whether all its outputs already existed."""
        return self.segmentation is None and self.error is None


def predict_cases(
    load_predictor: "Callable[[], Predictor]",
    destinations: Mapping[Case, Path],
    outputs: Outputs = Outputs(),  # noqa: B008 (frozen)
    resume: bool = False,
    on_window: "OnWindow | None" = None,
    keep_going: bool = True,
) -> Iterator[CaseResult]:
    """Segment each case, and write its labels and other outputs.

    Args:
        load_predictor: returns the same predictor on each call; first called when the first scan has been read.
        destinations: case -> path of its labels, see `Outputs.main_path`. Missing folders are created.
        outputs: what to write.
        resume: skip cases whose outputs all exist. Labels are written last, and whole.
        on_window: see `Predictor.predict`; called for the current case.
        keep_going: continue with other cases after any error. Otherwise the first error is raised.

    Yields:
        One result per case, in order, as soon as its files are written.

    Raises:
        UserError: a folder cannot be created; without `keep_going`, also any problem with a case.
        Stopped: raised by, for example, `on_window`; it ends the batch.
    """
    done = _finished(load_predictor, destinations, outputs) if resume else set()
    to_do = [(case, place) for case, place in destinations.items() if case not in done]
    made = segment_each(load_predictor, to_do, outputs, on_window, keep_going)
    for case, place in destinations.items():
        yield CaseResult(case, place) if case in done else next(made)


def _finished(
    load_predictor: "Callable[[], Predictor]", destinations: Mapping[Case, Path], outputs: Outputs
) -> set[Case]:
    """The cases whose outputs all exist."""
    structures = load_predictor().names
    return {
        case for case, place in destinations.items() if all(path.exists() for path in outputs.paths(place, structures))
    }


def segment_each(
    load_predictor: "Callable[[], Predictor]",
    to_do: Iterable[tuple[Case, Path]],
    outputs: Outputs,
    on_window: "OnWindow | None" = None,
    keep_going: bool = True,
    read: Callable[[Case, Path, Outputs], Volume] | None = None,
    write: Callable[[Segmentation, Path, Outputs, str], list[Path]] = write_outputs,
    during: Callable[[Case], AbstractContextManager[None]] = lambda case: nullcontext(),
) -> Iterator[CaseResult]:
    """Read the next case, segment the current one, and write the previous one at the same time.

    Args:
        load_predictor: as for `predict_cases`.
        to_do: the cases, and the paths of their labels. The next one is requested when the current one has been read.
        outputs: what to write.
        on_window: called after each window.
        keep_going: continue with other cases after any error.
        read: returns the scan of a case, in its own thread; by default it reads the case's files.
        write: writes the outputs of a case, in its own thread.
        during: gives a context within which a case is segmented.

    Yields:
        One result per case.
    """
    attempt, read = partial(_attempt, keep_going), read or _read
    with ThreadPoolExecutor(1, "stunet-read") as reader, ThreadPoolExecutor(1, "stunet-write") as writer:
        following = ((case, place, reader.submit(read, case, place, outputs)) for case, place in to_do)
        present = next(following, None)
        import stunet.inference.predictor  # noqa: F401 (torch takes a second to load, like a scan)

        writing: Future[CaseResult] | None = None
        while present is not None:
            case, place, reading = present
            done: Any = attempt(case, reading.result)
            present = next(following, None)
            if not isinstance(done, CaseResult):
                predictor = load_predictor()
                outputs.require_model(place, predictor)
                made_folder(place.parent)
                with during(case):
                    done = attempt(case, predictor.predict, done, on_window, outputs.probability_folder(place))
            if writing is not None:
                yield writing.result()
            writing = writer.submit(_write, case, done, place, outputs, attempt, write)
        if writing is not None:
            yield writing.result()


def _read(case: Case, place: Path, outputs: Outputs) -> Volume:
    if case.problem is not None:
        raise FileError(case.problem)
    scan = as_volume(case.files if len(case.files) > 1 else case.files[0])
    outputs.require_scan(place, scan)
    return scan


def _write(
    case: Case,
    done: Segmentation | CaseResult,
    place: Path,
    outputs: Outputs,
    attempt: Callable[..., Any],
    write: Callable[..., list[Path]],
) -> CaseResult:
    """Pass a failure on, or write."""
    if isinstance(done, CaseResult):
        return done
    written = attempt(case, write, done, place, outputs, case.name)
    return written if isinstance(written, CaseResult) else CaseResult(case, place, done, tuple(written))


def _attempt(keep_going: bool, case: Case, function: Callable[..., Result], *arguments: Any) -> Result | CaseResult:
    """The function's result, or a failed case result with the reason."""
    try:
        with explaining_full_main_memory(case.name):
            return function(*arguments)
    except Stopped:
        raise
    except Exception as error:  # one case must not stop the others; the traceback is kept and reported
        if not keep_going:
            raise
        if isinstance(error, UserError):
            return CaseResult(case, error=str(error), kind=type(error).__name__)
        return CaseResult(case, error=traceback.format_exc(), is_internal_error=True, kind=type(error).__name__)
