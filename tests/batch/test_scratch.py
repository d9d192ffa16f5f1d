"""A process's temporary folder goes with the process, also if that is killed."""

import os
import subprocess
import sys
import tempfile

import pytest

from stunet.batch.scratch import NAMED, remove_abandoned

PROGRAM = """
import sys
from stunet.batch.scratch import scratch
(scratch() / "scan.nii").write_text("a patient's")
print(scratch(), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a process that has written into its folder."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    started = []

    def one():
        words = [sys.executable, "-c", PROGRAM]
        process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        folder = process.stdout.readline().strip()
        assert os.listdir(folder) == ["scan.nii"]
        return process, folder

    yield one
    for process in started:
        process.kill()
        process.communicate()


def folders(tmp_path):
    return sorted(str(path) for path in tmp_path.iterdir())


def test_it_goes_when_the_process_ends(start, tmp_path):
    process, _ = start()
    process.communicate("")
    assert process.returncode == 0 and folders(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such locks")
def test_the_next_process_removes_that_of_a_killed_one_only(start, tmp_path):
    (killed, abandoned), (_, in_use) = start(), start()
    killed.kill()
    killed.wait()
    assert folders(tmp_path) == sorted([abandoned, in_use])
    _, own = start()
    assert folders(tmp_path) == sorted([in_use, own])
    assert os.listdir(in_use) == ["scan.nii"]


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is removed on Windows")
def test_what_others_put_there_is_not_touched(tmp_path, monkeypatch):
    """A named pipe would block whoever opens it; a link leads elsewhere."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "scan.nii").touch()
    os.mkfifo(tmp_path / f"{NAMED}pipe")
    (tmp_path / f"{NAMED}link").symlink_to(elsewhere)
    (tmp_path / f"{NAMED}notes").touch()
    remove_abandoned()
    assert len(folders(tmp_path)) == 4 and os.listdir(elsewhere) == ["scan.nii"]
