"""Optional packages. If one is missing, the message names the extra that installs it."""

from collections.abc import Iterator
from contextlib import contextmanager

from stunet.errors import MissingPackageError, NotEnoughMemoryError
from stunet.memory import lacks_memory


def how_to_install(extra: str) -> str:
    """The command that installs an extra, for messages. stunet is not on PyPI, so the command runs in a clone.

    >>> how_to_install("train")
    "pip install '.[train]' in the clone of stunet"
    """
    return f"pip install '.[{extra}]' in the clone of stunet"


@contextmanager
def from_extra(extra: str) -> Iterator[None]:
    """Wrap the import of an optional package. If it is missing, the message says how to install it.

    Args:
        extra: the extra of stunet that installs the package.

    Raises:
        MissingPackageError: the package is not installed.
        NotEnoughMemoryError: there is not enough memory to load it.
    """
    try:
        yield
    except (ImportError, MemoryError) as error:
        if isinstance(error, MemoryError) or lacks_memory(error):
            raise NotEnoughMemoryError("Not enough memory to load the libraries. End other programs.") from error
        raise MissingPackageError(
            f"This needs {error.name or 'a package'}, which is not installed: {how_to_install(extra)}."
        ) from error
