"""Packages that only some users need; a missing one is asked for by the name of its extra."""

from collections.abc import Iterator
from contextlib import contextmanager

from stunet.errors import MissingPackageError


@contextmanager
def from_extra(extra: str) -> Iterator[None]:
    """Around the import of an optional package: where it is missing, the message says how to install it.

    Args:
        extra: of stunet, that installs the package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise MissingPackageError(
            f"This needs {error.name or 'a package'}, which is not installed: pip install 'stunet[{extra}]'."
        ) from error
