"""The property of all readers: a value or a `UserError`, and nothing is run or written."""

import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from stunet.errors import UserError
from tests.fuzz.corpus import files_in, put_files
from tests.fuzz.damage import Files
from tests.fuzz.limits import limits


def read_or_refuse(read: Callable[[Path], object], files: Files) -> str | None:
    """Read files in a folder of their own.

    Returns:
        The sentence with which they are refused; None if they are read.

    Raises:
        AssertionError: a file was written, or the sentence is none.
        BaseException: anything else that the reader raised, and what `limits` raises.
    """
    with tempfile.TemporaryDirectory(prefix="stunet-fuzz-") as name, _working_in(Path(name) / "working"):
        folder = Path(name) / "files"
        put_files(files, folder)
        refusal = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                with limits():
                    read(folder)
            except UserError as error:
                refusal = str(error)
        assert refusal is None or refusal.strip(), "a refusal without a sentence"
        assert files_in(folder) == files, "the files were changed, or others added"
        assert not list(Path().iterdir()), "a file was written to the working folder"
    return refusal


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    folder.mkdir()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
