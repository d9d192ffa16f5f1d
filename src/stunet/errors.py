"""The one exception whose message is meant for the person at the keyboard."""

from collections.abc import Iterable


class UserError(ValueError):
    """Something the user can mend: a bad file, an unknown name, an option that is missing.

    The message is one or two sentences: what is wrong, with which file, and what to do. The command line prints it
    without a traceback and exits with code 2.
    """


def listed(names: Iterable[object], most: int = 5) -> str:
    """The first of some names, for a message.

    >>> listed(range(10)), listed(["liver"])
    ('0, 1, 2, 3, 4, ...', 'liver')
    """
    texts = [str(name) for name in names]
    return ", ".join(texts[:most]) + (", ..." if len(texts) > most else "")
