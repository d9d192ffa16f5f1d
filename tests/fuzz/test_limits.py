"""The fuzzers see what a reader must not do."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from stunet.errors import FileError
from tests.fuzz.limits import MOST_BYTES, ForbiddenError
from tests.fuzz.reading import read_or_refuse

FILES = {"scan.nii": b"content"}


def refuse(folder):
    raise FileError("a sentence")


def fail(folder):
    raise KeyError("anything")


@pytest.mark.parametrize(
    "act",
    [
        lambda folder: os.system("true"),
        lambda folder: subprocess.run([sys.executable, "-V"]),
        lambda folder: (folder / "scan.nii").write_bytes(b""),
        lambda folder: (folder / "other").touch(),
        lambda folder: Path("marker").write_text(""),
        lambda folder: (folder / "scan.nii").unlink(),
        lambda folder: (folder / "folder").mkdir(),
    ],
)
def test_what_is_forbidden_is_seen(act):
    with pytest.raises(ForbiddenError):
        read_or_refuse(act, FILES)


@pytest.mark.skipif(sys.platform != "linux", reason="the system does not limit memory")
def test_too_much_memory_is_seen():
    with pytest.raises(MemoryError):
        read_or_refuse(lambda folder: bytearray(2 * MOST_BYTES), FILES)


def test_other_errors_are_seen_and_refusals_are_returned():
    assert read_or_refuse(lambda folder: (folder / "scan.nii").read_bytes(), FILES) is None
    assert read_or_refuse(refuse, FILES) == "a sentence"
    with pytest.raises(KeyError):
        read_or_refuse(fail, FILES)
