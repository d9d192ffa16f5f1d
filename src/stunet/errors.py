"""What can go wrong for the person at the keyboard, as a tree.

    ValueError
    └── UserError                     the user can mend it; the command line exits with 2
        ├── FileError                 a file or folder is missing, damaged, of another kind, or may not be read
        │   └── UnsafeFileError       it wants to run code, or claims more than it holds; nothing of it was run
        ├── OutputError               an output cannot be written
        ├── UnknownNameError          no model, network, dataset, structure or option has that name
        ├── MissingPackageError       an optional package is not installed; the message names the extra
        └── NotEnoughMemoryError      the work does not fit into the memory of this machine or GPU
    Exception
    └── Stopped                       the work was told to stop; what is done is kept, and can be resumed
        └── TrainingStopped           SIGTERM or Ctrl-C came, and the training saved a checkpoint

The rooms raise them, and one place, `stunet.cli.command`, turns them into a sentence and an exit code. Anything else
that is raised is a mistake in stunet.
"""

import difflib
from collections.abc import Iterable

SHOWN_NAMES = 20
"""Known names that a message lists; the others are counted."""


class UserError(ValueError):
    """Something the user can mend: a bad file, an unknown name, an option that is missing.

    The message is one or two sentences: what is wrong, with which file, and what to do.
    """


class FileError(UserError):
    """A file or folder is missing, damaged, of another kind, or may not be read."""


class UnsafeFileError(FileError):
    """A file wants to run code when it is read, or claims more than it holds. Nothing of it was run."""


class OutputError(UserError):
    """An output cannot be written: no permission, no space, a file where a folder should be."""


class UnknownNameError(UserError):
    """No model, network, dataset, structure or option has that name."""

    @classmethod
    def of(cls, what: str, name: object, known: Iterable[str]) -> "UnknownNameError":
        """The error whose message names what is known, and the nearest of it.

        >>> print(UnknownNameError.of("network", "hugee", ["base", "huge"]))
        There is no network 'hugee'. Did you mean 'huge'? Known are: base, huge.
        """
        known = list(known)
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        return cls(f"There is no {what} {str(name)!r}.{hint} Known are: {listed(known, SHOWN_NAMES)}.")


class MissingPackageError(UserError):
    """An optional package is not installed. The message names the extra that installs it."""


class NotEnoughMemoryError(UserError):
    """The work does not fit into the memory of this machine or GPU."""


class Stopped(Exception):  # noqa: N818 (nothing went wrong)
    """The work was told to stop. What is done is kept, and can be resumed.

    Attributes:
        exit_code: of the command: 128 and the number of the signal, as shells report it; 143 for SIGTERM.
    """

    def __init__(self, message: str, exit_code: int = 143):
        super().__init__(message)
        self.exit_code = exit_code


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first of some names, and how many more there are, for a message.

    >>> listed(range(10)), listed(["liver", "spleen"]), listed([])
    ('0, 1, 2, 3, 4 and 5 more', 'liver, spleen', 'none')
    """
    texts = [str(name) for name in names]
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", ".join(texts[:most]) + more if texts else "none"
