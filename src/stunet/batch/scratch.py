"""A temporary folder for this process, for files on their way to and from a store.

It is removed when the process ends. If the process is killed, the next one on this machine removes it, since what lies
there may be a copy of a patient's scan.
"""

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

if sys.platform != "win32":
    import fcntl

NEW, NAMED = "stunet-new-", "stunet-batch-"
"""How folders are called until they are locked, and then."""


@cache
def scratch() -> Path:
    """The folder; made at the first call."""
    remove_abandoned()
    made = Path(tempfile.mkdtemp(prefix=NEW))
    _lock(made)
    folder = made.rename(made.with_name(made.name.replace(NEW, NAMED)))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def remove_abandoned() -> None:
    """Remove the folders of processes that were killed. A living process holds a lock on its folder."""
    if sys.platform == "win32":
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{NAMED}*"):
        descriptor = _lock(folder)
        if descriptor is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)


def _lock(folder: Path) -> int | None:
    """Lock a folder until the returned descriptor is closed, or the process ends; None if it is not to be had."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:  # another user's, no folder, or gone by now
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
