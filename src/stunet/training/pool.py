"""One function on many cases, in processes of their own; a case that fails costs a sentence and not the others."""

import contextlib
import io
import multiprocessing
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from stunet.errors import UserError


def each_case(
    function: Callable[..., None], arguments: Mapping[str, tuple[Any, ...]], processes: int
) -> Iterator[tuple[str, str | None]]:
    """Call a function for each case, some at a time, and say how it went.

    With one process the cases are worked on in this one. Otherwise scripts need `if __name__ == "__main__":`, for new
    processes import them again. What the function prints is not shown.

    Args:
        function: of a module, so that other processes find it.
        arguments: case -> arguments of the function.
        processes: how many cases at a time.

    Yields:
        Case, and None or a sentence on what went wrong, as they are done.

    Raises:
        UserError: a process was killed.
    """
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
        raise UserError(
            "A process was killed while it worked on a case; most often memory has run out. What is done is kept: give "
            "a smaller number of --processes and start again."
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
            return "there is not enough memory for this case; give a smaller number of --processes."
        except Exception as error:  # nnU-Net and the readers raise anything on bad input
            return f"{type(error).__name__}: {error}"
    return None
