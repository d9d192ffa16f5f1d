"""One function on many cases, in processes of their own; a case that fails is reported, and the others are done."""

import contextlib
import io
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from stunet.errors import NotEnoughMemoryError, UserError


def work_on_cases(
    function: Callable[..., None],
    arguments: Mapping[str, tuple[Any, ...]],
    dataset: str,
    cases: int,
    processes: int,
    on_case: Callable[[int, int], None],
) -> None:
    """Call a function for each case, some at a time; a case that fails does not stop the others.

    With one process the cases are worked on in this one. Otherwise scripts need `if __name__ == "__main__":`, for new
    processes import them again. What the function prints is not shown.

    Args:
        function: of a module, so that other processes find it.
        arguments: case -> arguments of the function.
        dataset: its name, for messages.
        cases: how many the dataset has; those without arguments are done already.
        processes: how many cases at a time.
        on_case: called with the number of cases done and of all.

    Raises:
        UserError: cases that failed, each with the reason.
        NotEnoughMemoryError: a process was killed.
    """
    before = cases - len(arguments)
    failed = {}
    on_case(before, cases)
    for done, (name, error) in enumerate(each_case(function, arguments, processes), start=1):
        on_case(before + done, cases)
        if error is not None:
            failed[name] = error
    if failed:
        lines = [f"  {name}: {error}" for name, error in sorted(failed.items())[:10]]
        more = ["  ..."] if len(failed) > len(lines) else []
        title = f"nnU-Net refuses the dataset {dataset}: {len(failed)} of {cases} cases cannot be used."
        raise UserError("\n".join([title, *lines, *more]))


def each_case(
    function: Callable[..., None], arguments: Mapping[str, tuple[Any, ...]], processes: int
) -> Iterator[tuple[str, str | None]]:
    """Case, and None or a sentence on what went wrong, as they are done."""
    if processes == 1 or len(arguments) < 2:
        for case, values in arguments.items():
            yield case, _attempt(function, values)
        return
    pool = ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"))
    try:
        running = {pool.submit(_attempt, function, values): case for case, values in arguments.items()}
        for done in as_completed(running):
            yield running[done], done.result()
    except BrokenProcessPool as error:
        raise NotEnoughMemoryError(
            "A process was killed while it worked on a case; most often memory has run out. What is done is kept: give "
            "a smaller number of --workers and start again."
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _attempt(function: Callable[..., None], arguments: tuple[Any, ...]) -> str | None:
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            function(*arguments)
        except UserError as error:
            return str(error)
        except MemoryError:
            return "there is not enough memory for this case; give a smaller number of --workers."
        except Exception as error:  # nnU-Net and the readers raise anything on bad input
            return f"{type(error).__name__}: {error}"
    return None
