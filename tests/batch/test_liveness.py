import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import pytest

from stunet.batch.liveness import Watch, Worker, heartbeat, live_workers


class Clock:
    """Seconds that a test moves."""

    def __init__(self):
        self.seconds = 1000.0

    def __call__(self):
        return self.seconds


@pytest.fixture
def clock():
    return Clock()


def elsewhere(folder, name="there"):
    """A worker on another machine."""
    (folder / f"{name}.json").write_text(json.dumps(asdict(Worker(name, "another machine", 1, 7))))
    return folder / f"{name}.beat"


def test_a_worker_elsewhere_is_dead_when_its_heartbeat_stands_still_for_the_lease(tmp_path, clock):
    beat = elsewhere(tmp_path)
    watch = Watch(tmp_path, 180, clock)
    for number in range(5):
        beat.write_text(str(number))
        clock.seconds += 179
        assert not watch.is_dead("there")
    clock.seconds += 179
    assert not watch.is_dead("there")
    clock.seconds += 2
    assert watch.is_dead("there")
    beat.write_text("it was only slow")
    assert not watch.is_dead("there")


def test_clocks_that_differ_or_go_back_kill_nobody(tmp_path, clock, monkeypatch):
    beat = elsewhere(tmp_path)
    watch = Watch(tmp_path, 180, clock)
    for number, wall in enumerate((2e9, 1e9, 0.0, 2e9)):
        monkeypatch.setattr(time, "time", lambda wall=wall: wall)
        beat.write_text(str(number))
        clock.seconds += 20
        assert not watch.is_dead("there")


def test_at_a_glance_those_are_alive_whose_heartbeat_is_near_the_newest(tmp_path):
    for name, seconds in (("old", 1000), ("late", 1150), ("newest", 1200)):
        beat = elsewhere(tmp_path, name)
        beat.write_text("1")
        os.utime(beat, (seconds, seconds))
    assert live_workers(tmp_path, 180) == {"late", "newest"}
    assert live_workers(tmp_path / "none") == set()


def test_a_worker_of_whom_nothing_is_known_is_dead_after_the_lease(tmp_path, clock):
    watch = Watch(tmp_path, 180, clock)
    assert not watch.is_dead("")
    clock.seconds += 181
    assert watch.is_dead("")


def test_a_heartbeat_beats_and_ends(tmp_path):
    with heartbeat(tmp_path, Worker.here(), seconds=0.01):
        (beat,) = tmp_path.glob("*.beat")
        seen = set()
        while len(seen) < 3:
            seen.add(beat.read_text())
    last = beat.read_text()
    time.sleep(0.05)
    assert beat.read_text() == last


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells which process a number is")
@pytest.mark.parametrize("collected", [True, False], ids=["collected", "zombie"])
def test_a_process_of_this_machine_that_was_killed_is_dead_at_once(tmp_path, collected):
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = Worker.here()
    start = Worker("child", here.host, child.pid, None)
    from stunet.batch.liveness import _start_of

    worker = replace(start, started=_start_of(child.pid))
    (tmp_path / "child.json").write_text(json.dumps(asdict(worker)))
    watch = Watch(tmp_path, 1e9)
    assert not watch.is_dead("child")
    child.send_signal(signal.SIGKILL)
    if collected:
        child.wait()
    while not watch.is_dead("child"):
        time.sleep(0.01)
    child.wait()
    assert not here.is_gone
    assert replace(here, started=here.started - 1).is_gone, "a later process with the same number"
