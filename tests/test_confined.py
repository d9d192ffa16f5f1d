"""The process that reads foreign pickles can do nothing but read and answer, within limits."""

import os
import sys

import pytest

import stunet.confined
from stunet.confined import read_confined
from stunet.errors import FileError, UnsafeFileError
from tests import forbidden_acts

limited = pytest.mark.skipif(sys.platform != "linux", reason="the system does not have all limits")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "föreign.pkl"
    path.write_text("content")
    return path


def test_what_the_reader_gives_is_returned(file):
    assert read_confined(forbidden_acts.give_containers, file) == {
        "text": "content",
        0: [1, 2.5],
        "[1, 2]": [None],
        "nested": {"pairs": [float("inf")]},
    }


@limited
@pytest.mark.parametrize("act", ["open_a_file", "write_a_file", "write_to_the_file", "connect"])
def test_it_can_open_and_write_nothing(file, act):
    assert read_confined(getattr(forbidden_acts, act), file) == "OSError"
    assert [path.read_text() for path in file.parent.iterdir()] == ["content"]


@limited
@pytest.mark.parametrize("act", ["allocate", "never_end"])
def test_it_ends_where_it_takes_too_much(file, act):
    with pytest.raises(FileError, match=r"föreign\.pkl takes more than 1 GB or 8 s to read"):
        read_confined(getattr(forbidden_acts, act), file)


def test_it_ends_where_it_answers_too_much(file, monkeypatch):
    monkeypatch.setattr(stunet.confined, "MOST_ANSWER_BYTES", 10**6)
    with pytest.raises(FileError, match="was refused"):
        read_confined(forbidden_acts.answer_forever, file)


def test_it_ends_after_a_time_where_the_system_has_no_limits(file, monkeypatch):
    monkeypatch.setattr(stunet.confined, "MOST_SECONDS_IN_ALL", 0.5)
    with pytest.raises(FileError, match="was refused"):
        read_confined(forbidden_acts.never_end, file)


def test_refusals_keep_their_kind_and_words(file):
    with pytest.raises(UnsafeFileError, match=r"^föreign\.pkl is refused$"):
        read_confined(forbidden_acts.refuse, file)


@pytest.mark.parametrize("act", ["fail", "nest"])
def test_any_other_error_means_that_the_file_is_damaged(file, act):
    with pytest.raises(FileError, match=r"föreign\.pkl is damaged"):
        read_confined(getattr(forbidden_acts, act), file)


def test_a_module_in_the_working_folder_is_not_imported(file, tmp_path, monkeypatch):
    for name in ("json", "numpy", "stunet"):
        (tmp_path / f"{name}.py").write_text("open('marker', 'w')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    read_confined(forbidden_acts.give_containers, file)
    assert not os.path.exists("marker")


def test_a_process_that_cannot_start_is_said(file, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FileError, match="no process could be started to read it"):
        read_confined(forbidden_acts.give_containers, file)
