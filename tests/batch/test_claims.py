from threading import Event

import pytest

from stunet.batch import claims as claims_module
from stunet.batch.claims import Claims
from stunet.batch.ledger import Ledger
from stunet.batch.status import BatchReader
from tests.batch.batches import listed_batch


class Deaths:
    """A watch that knows which workers a test has ended."""

    def __init__(self):
        self.dead = set()

    def is_dead(self, worker):
        return worker in self.dead


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(claims_module, "POLL_SECONDS", 0.01)


@pytest.fixture
def batch(tmp_path):
    return listed_batch(tmp_path, [f"scan{number}" for number in range(6)])


@pytest.fixture
def deaths():
    return Deaths()


def worker(batch, name, deaths, stop=None):
    return Claims(Ledger(batch.ledger, name), name, deaths, stop or Event())


def states(batch):
    return {record.scan.name: record.state.state for record in BatchReader(batch).records()}


def test_workers_share_the_scans_and_none_gets_one_twice(batch, deaths):
    one, other = (worker(batch, name, deaths) for name in ("one", "other"))
    streams, taken = [one.fresh(), other.fresh()], []
    for _ in range(3):
        taken += [next(stream).name for stream in streams]
    assert sorted(taken) == [f"scan{number}" for number in range(6)]
    assert all(next(stream, None) is None for stream in streams)


def test_what_a_dead_worker_had_is_taken_over_one_by_one(batch, deaths):
    killed, heir = worker(batch, "killed", deaths), worker(batch, "heir", deaths)
    had = [scan.name for _, scan in zip(range(2), killed.fresh(), strict=False)]
    for scan in heir.fresh():
        heir.end(scan.name, "done")
    deaths.dead.add("killed")
    assert not list(heir.fresh()), "what a worker died on is not taken with others"
    left = heir.left_behind()
    assert left.name in had
    assert not killed.end(left.name, "done"), "the dead worker was only slow, and is too late"
    heir.end(left.name, "done")
    heir.end(heir.left_behind().name, "failed", error="damaged")
    assert heir.left_behind() is None
    assert sorted(states(batch).values()) == ["done"] * 5 + ["failed"]


def test_a_scan_on_which_two_workers_died_is_set_aside_with_a_sentence(batch, deaths):
    name = next(worker(batch, "first", deaths).fresh()).name
    deaths.dead.add("first")
    second = worker(batch, "second", deaths)
    for scan in second.fresh():
        second.end(scan.name, "done")
    assert second.left_behind().name == name
    deaths.dead.add("second")
    assert worker(batch, "third", deaths).left_behind() is None
    (record,) = [record for record in BatchReader(batch).records() if record.state.state == "set aside"]
    assert record.scan.name == name and (record.state.tries, record.state.deaths) == (2, 2)
    assert record.error.startswith(f"/scans/{name}.nii: set aside, because 2 workers ended unexpectedly")


def test_what_is_given_back_is_no_try(batch, deaths):
    stopped = worker(batch, "stopped", deaths)
    for _ in range(3):
        name = next(stopped.fresh()).name
        stopped.release()
    assert set(states(batch).values()) == {"waiting"}
    record = next(record for record in BatchReader(batch).records() if record.scan.name == name)
    assert record.state.tries == 0 and record.state.deaths == 0


def test_nothing_is_claimed_after_a_stop(batch, deaths):
    stop = Event()
    claims = worker(batch, "w", deaths, stop)
    stream = claims.fresh()
    next(stream)
    stop.set()
    assert next(stream, None) is None and claims.left_behind() is None
