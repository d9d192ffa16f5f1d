import errno
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from stunet.batch import durable
from stunet.batch.durable import create_exclusively, files_below, put_in_place
from stunet.errors import OutputError


def test_of_many_that_create_a_file_at_once_one_succeeds(tmp_path):
    path = tmp_path / "claim"
    with ThreadPoolExecutor(8) as threads:
        attempts = [
            threads.submit(create_exclusively, path, f"{number}".encode(), tmp_path / f"draft{number}")
            for number in range(40)
        ]
        winners = [number for number, attempt in enumerate(attempts) if attempt.result()]
    assert len(winners) == 1 and path.read_text() == str(winners[0])
    assert [one.name for one in tmp_path.iterdir()] == ["claim"]


def test_without_hard_links_one_succeeds_too(tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(durable.os, "link", no_links)
    made = [create_exclusively(tmp_path / "claim", content, tmp_path / "draft") for content in (b"first", b"second")]
    assert made == [True, False] and (tmp_path / "claim").read_bytes() == b"first"
    assert not (tmp_path / "draft").exists()


def test_a_link_whose_answer_was_lost_counts(tmp_path, monkeypatch):
    link = os.link

    def made_but_said_to_exist(source, target):
        link(source, target)
        raise FileExistsError

    monkeypatch.setattr(durable.os, "link", made_but_said_to_exist)
    assert create_exclusively(tmp_path / "claim", b"mine", tmp_path / "draft")


def test_a_full_disk_is_a_sentence_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(durable.os, "fsync", full)
    with pytest.raises(OutputError, match=r"claim: cannot be written \(No space left on device\)"):
        create_exclusively(tmp_path / "claim", b"", tmp_path / "draft")
    assert not (tmp_path / "claim").exists()


def test_a_file_moves_to_a_folder_that_is_made(tmp_path):
    (tmp_path / "new").write_bytes(b"labels")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_bytes(b"before")
    put_in_place(tmp_path / "new", tmp_path / "out" / "old")
    assert list(files_below(tmp_path)) == [tmp_path / "out" / "old"]
    assert (tmp_path / "out" / "old").read_bytes() == b"labels"
