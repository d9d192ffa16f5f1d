"""Run a function on many cases in separate processes. A case that fails is reported; the others still run."""

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
    """Call a function for each case, several at a time. A case that fails does not stop the others.

    With one process, the cases run in this process. Otherwise scripts need `if __name__ == "__main__":`, because new
    processes import them again. Output printed by the function is not shown.

    Args:
        function: at module level, so that other processes can import it.
        arguments: case -> arguments of the function.
        dataset: its name, for messages.
        cases: number of cases in the dataset; those without arguments are already done.
        processes: number of cases processed at the same time.
        on_case: called with the number of cases done and the total.

    Raises:
        UserError: some cases failed; the message gives the reason for each.
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
    """Yield each case as it finishes, with None or a message about what went wrong."""
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
            "A process was killed while it worked on a case, most likely because memory ran out. Finished cases are "
            "kept: start again with fewer --workers."
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
            return "not enough memory for this case; use fewer --workers."
        except Exception as error:  # nnU-Net and the readers raise all kinds of errors on bad input
            return f"{type(error).__name__}: {error}"
    return None
