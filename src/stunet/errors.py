"""The exceptions that users may see, as a tree.

    ValueError
    └── UserError                     the user can fix it; the command line exits with 2
        ├── FileError                 a file or folder is missing, damaged, of another kind, or may not be read
        │   └── UnsafeFileError       it would run code, or claims more data than it has; nothing was run
        ├── OutputError               an output cannot be written
        ├── UnknownNameError          no model, network, dataset, structure or option has that name
        ├── MissingPackageError       an optional package is not installed; the message names the extra
        └── NotEnoughMemoryError      the work does not fit into the memory of this machine or GPU
    Exception
    └── Stopped                       the work was stopped; finished parts are kept, and it can be resumed
        └── TrainingStopped           SIGTERM or Ctrl-C came, and the training saved a checkpoint

Every package may raise them; only `stunet.cli.command` turns them into a message and an exit code. Any other exception
is a bug in stunet.
"""

import difflib
from collections.abc import Iterable

SHOWN_NAMES = 20
"""The number of known names that a message lists; the others are counted."""


class UserError(ValueError):
    """Something the user can fix: a bad file, an unknown name, an option that is missing.

    The message is one or two sentences: what is wrong, with which file, and what to do.
    """


class FileError(UserError):
    """A file or folder is missing, damaged, of another kind, or may not be read."""


class UnsafeFileError(FileError):
    """A file would run code when it is read, or claims more data than it has. Nothing was run."""


class OutputError(UserError):
    """An output cannot be written: no permission, no space, a file where a folder should be."""


class UnknownNameError(UserError):
    """No model, network, dataset, structure or option has that name."""

    @classmethod
    def of(cls, what: str, name: object, known: Iterable[str]) -> "UnknownNameError":
        """Create the error; its message lists the known names and suggests the closest one.

        >>> print(UnknownNameError.of("network", "hugee", ["base", "huge"]))
        There is no network 'hugee'. Did you mean 'huge'? Known names: base, huge.
        """
        known = list(known)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"There is no {what} {str(name)!r}.{hint} Known names: {listed(known, SHOWN_NAMES)}.")


class MissingPackageError(UserError):
    """An optional package is not installed. The message names the extra that installs it."""


class NotEnoughMemoryError(UserError):
    """The work does not fit into the memory of this machine or GPU."""


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """The work was stopped. Finished parts are kept, and it can be resumed.

    Attributes:
        exit_code: exit code of the command: 128 plus the signal's number, as in shells; 143 for SIGTERM.
    """

    def __init__(self, message: str, exit_code: int = 143):
        super().__init__(message)
        self.exit_code = exit_code


def listed(names: Iterable[object], most: int = 5) -> str:
    """List the first names, and count the others, for a message.

    >>> listed(range(10)), listed(["liver", "spleen"]), listed([])
    ('0, 1, 2, 3, 4 and 5 more', 'liver, spleen', 'none')
    """
    texts = [str(name) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more if texts else "none"
