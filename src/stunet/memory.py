"""Lack of main memory: how libraries show it, and what is said."""

from collections.abc import Iterator
from contextlib import contextmanager

from stunet.errors import NotEnoughMemoryError

SIGNS = ("allocate memory", "failed to map segment", "bad_alloc", "can't start new thread")
"""What is said if memory runs out: by Linux and torch, the loader of libraries, C++, and Python for new threads."""


def lacks_memory(error: BaseException) -> bool:
    """Whether main memory ran out.

    >>> lacks_memory(ImportError("libtorch_cpu.so: failed to map segment from shared object"))
    True
    >>> lacks_memory(ImportError("No module named 'torch'"))
    False
    """
    return isinstance(error, MemoryError) or any(sign in str(error) for sign in SIGNS)


@contextmanager
def explaining_full_main_memory(source: str) -> Iterator[None]:
    """Explain that a scan or a model needs more main memory than there is.

    Args:
        source: its name or file, for the message.

    Raises:
        NotEnoughMemoryError: memory ran out.
    """
    try:
        yield
    except (MemoryError, RuntimeError, OSError) as error:
        if isinstance(error, NotEnoughMemoryError) or not lacks_memory(error):
            raise
        raise NotEnoughMemoryError(
            f"{source}: there is not enough memory for it. Close other programs, use a smaller model, fewer "
            "--threads, or a machine with more memory."
        ) from error
