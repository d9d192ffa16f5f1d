"""A scan that takes too long is set aside, wherever it hangs, and costs no other scan."""

import os
import threading
from threading import Event

import pytest

from stunet.batch import time_limit
from stunet.batch.crew import Crew
from stunet.batch.member import WorkerOptions
from stunet.batch.start import start_batch
from stunet.batch.status import BatchReader
from stunet.batch.time_limit import TimeLimit
from stunet.weights.model_file import save_model
from tests.batch.batches import settings, write_scans
from tests.inference.samples import card, plan, tiny_network


class Clock:
    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(time_limit, "monotonic", lambda: self.now)


def test_only_the_time_spent_on_a_scan_counts(monkeypatch):
    clock, limit = Clock(monkeypatch), TimeLimit(10, lambda scan: None)
    for _ in range(2):
        with limit.counting("a"):
            clock.now += 4
            assert limit._late(10) is None
        clock.now += 100
    with limit.counting("b"), limit.counting("a"):
        clock.now += 1.9
        assert limit._late(10) is None
        clock.now += 0.2
        assert limit._late(10) == "a"


def test_it_is_told_from_another_thread(monkeypatch):
    clock, late, told = Clock(monkeypatch), [], Event()
    limit = TimeLimit(10, lambda scan: (late.append(scan), told.set()))
    with limit.watched(), limit.counting("a"):
        clock.now += 11
        assert told.wait(30)
    assert late == ["a"]


def test_without_a_limit_nothing_is_watched():
    limit, threads = TimeLimit(None, pytest.fail), threading.active_count()
    with limit.watched(), limit.counting("a"):
        assert threading.active_count() == threads


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_a_scan_whose_reading_hangs_is_set_aside(tmp_path):
    network = tiny_network(num_classes=3)
    save_model(tmp_path / "tiny.safetensors", network.state_dict(), card(network, plan()))
    write_scans(tmp_path, ["a", "b", "c"])
    os.mkfifo(tmp_path / "hangs.nii")
    manifest = tmp_path / "scans.csv"
    manifest.write_text("scan\na.nii.gz\nhangs.nii\nb.nii.gz\nc.nii.gz\n")
    batch = start_batch([str(manifest)], tmp_path / "out", settings(tmp_path / "tiny.safetensors")).folder
    ended, said = [], []
    Crew(batch, 1, WorkerOptions(1, scan_timeout=8.0), on_scan=ended.append, say=said.append).run()
    status = BatchReader(batch).status()
    assert status.states == {"waiting": 0, "working": 0, "done": 3, "failed": 1, "set aside": 0}
    assert status.failures == {"took too long": 1}
    assert status.errors["hangs"].startswith("hangs: set aside, because it took longer than --scan-timeout, 8 seconds.")
    assert sorted(end.scan for end in ended) == ["a", "b", "c", "hangs"] and not said
