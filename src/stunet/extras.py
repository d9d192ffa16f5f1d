"""Packages that only some users need; a missing one is asked for by the name of its extra."""

from importlib import import_module
from types import ModuleType

from stunet.errors import MissingPackageError


def import_extra(module: str, extra: str) -> ModuleType:
    """Import an optional package.

    Raises:
        UserError: it is not installed; the message says how to install it.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingPackageError(f"This needs {module}, which is not here: pip install 'stunet[{extra}]'.") from error
