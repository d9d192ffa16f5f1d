import os
import signal
import threading
from threading import Event

import pytest

from stunet.batch import crew as crew_module
from stunet.batch.crew import Crew
from stunet.batch.member import Member, WorkerOptions
from stunet.batch.outputs import Outputs
from stunet.batch.request import request_for
from stunet.batch.segmenter import OnThisMachine
from stunet.batch.start import join_batch, start_batch
from stunet.batch.status import BatchReader
from stunet.batch.worker import work
from stunet.errors import Stopped, UserError
from stunet.inference.predictor import Predictor
from stunet.weights.model import load_model
from tests.batch.batches import (
    dying_worker,
    fake_worker,
    idle_worker,
    kill_a_worker,
    listed_batch,
    settings,
    write_scans,
)
from tests.inference.samples import EXACT


def states(batch):
    return {record.scan.name: record.state.state for record in BatchReader(batch).records()}


def test_poison_is_set_aside_after_two_workers_and_costs_no_other_scan(tmp_path):
    names = [f"scan{number:02d}" for number in range(12)]
    batch = listed_batch(tmp_path, [*names, "poison"])
    ended, said = [], []
    Crew(batch, 1, on_scan=ended.append, say=said.append, entry=fake_worker).run()
    assert states(batch) == {**dict.fromkeys(names, "done"), "poison": "set aside"}
    assert sorted(end.scan for end in ended) == names, "each once"
    assert said == ["A worker ended unexpectedly (signal SIGKILL). Another takes its place."] * 2
    (sentence,) = BatchReader(batch).status().errors.values()
    assert "/scans/poison.nii: set aside, because 2 workers ended unexpectedly" in sentence
    assert BatchReader(batch).status().failures == {"worker died": 1}
    assert join_batch(tmp_path).open == 0 and join_batch(tmp_path, retry=True).open == 1


def test_workers_that_die_at_once_end_the_batch_with_a_sentence(tmp_path):
    batch = listed_batch(tmp_path, ["scan"])
    with pytest.raises(UserError, match=r"3 workers ended one after the other before they finished a scan \(signal"):
        Crew(batch, 1, entry=dying_worker).run()
    assert states(batch) == {"scan": "waiting"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_workers_and_gives_back_their_scans(tmp_path, number):
    batch = listed_batch(tmp_path, ["a", "b", "c"])
    before = signal.getsignal(number)
    claimed = threading.Thread(target=signal_when_claimed, args=(batch, number))
    claimed.start()
    with pytest.raises(Stopped, match="Run the same command to go on") as stopped:
        Crew(batch, 1, entry=idle_worker).run()
    claimed.join()
    assert stopped.value.exit_code == 128 + number
    assert set(states(batch).values()) == {"waiting"}
    assert sum(len(record.history) for record in BatchReader(batch).records()) == 2, "one was claimed and given back"
    assert signal.getsignal(number) == before


def signal_when_claimed(batch, number):
    while "working" not in states(batch).values():
        Event().wait(0.05)
    os.kill(os.getpid(), number)


def test_more_workers_start_only_where_memory_permits(tmp_path, monkeypatch):
    batch = listed_batch(tmp_path, ["a"])
    monkeypatch.setattr(crew_module, "memory_limit", lambda: 10 * 2**30)
    said = []
    assert Crew(batch, 4, peak_memory=2**30, say=said.append)._most == 4
    assert Crew(batch, 4)._most == 1, "until the first has shown how much it takes"
    assert not said
    assert Crew(batch, 4, peak_memory=4 * 2**30, say=said.append)._most == 2
    assert Crew(batch, 4, peak_memory=2**40, say=said.append)._most == 1
    assert said == [
        "2 of 4 workers: one takes 4.0 GiB, and there are 10.0 GiB.",
        "1 of 4 workers: one takes 1024.0 GiB, and there are 10.0 GiB.",
    ]


@pytest.fixture
def assigned(monkeypatch):
    """The threads of each worker that is told to work."""
    threads, assign = [], Member.assign
    monkeypatch.setattr(
        Member, "assign", lambda self, path, options: threads.append(options.threads) or assign(self, path, options)
    )
    return threads


NAMES = [f"scan{number:03d}" for number in range(300)]
"""More than a fake worker ends before others follow."""


@pytest.mark.parametrize(("memory", "later"), [(5 * 2**20, [4] * 4), (2**30, [1] * 16)])
def test_the_first_worker_has_all_threads_until_others_follow(tmp_path, monkeypatch, assigned, memory, later):
    monkeypatch.setattr(crew_module, "memory_limit", lambda: memory)  # a fake worker says that it takes 2**20
    batch, ended = listed_batch(tmp_path, NAMES), []
    Crew(batch, 16, WorkerOptions(16), on_scan=ended.append, entry=fake_worker).run()
    assert assigned == [16, *later], "its place is taken by one with its share"
    assert states(batch) == dict.fromkeys(NAMES, "done")
    assert sorted(end.scan for end in ended) == NAMES, "each once"


@pytest.mark.parametrize(
    ("worthwhile", "scans", "others"), [(0.0, 300, [4, 4]), (90.0, 300, []), (0.0, 6, [4, 4]), (0.0, 5, [])]
)
def test_others_follow_if_enough_is_left(tmp_path, monkeypatch, assigned, worthwhile, scans, others):
    """Of six scans, four are left after two, so two workers have two each."""
    monkeypatch.setattr(crew_module, "WORTHWHILE_SECONDS", worthwhile)
    batch = listed_batch(tmp_path, NAMES)
    Crew(batch, 2, WorkerOptions(8), scans=scans, entry=fake_worker).run()
    assert assigned == [8, *others]
    assert states(batch) == dict.fromkeys(NAMES, "done")


def test_scans_that_fail_say_nothing_of_memory_and_pace(tmp_path, assigned):
    batch = listed_batch(tmp_path, [*(f"bad{number:03d}" for number in range(100)), "scan"])
    Crew(batch, 2, WorkerOptions(8), entry=fake_worker).run()
    assert assigned == [8], "only one scan was done"


@pytest.mark.parametrize(("workers", "threads"), [(1, 8), (3, 2), (16, 1)])
def test_where_the_memory_is_known_all_begin_at_once(tmp_path, workers, threads):
    crew = Crew(listed_batch(tmp_path, ["a"]), workers, WorkerOptions(8), peak_memory=2**20)
    assert (crew._most, crew._options.threads) == (workers, threads)


def test_killed_workers_lose_nothing_and_do_nothing_twice(tmp_path, model):
    names = [f"scan{number:02d}" for number in range(16)]
    scans = write_scans(tmp_path / "scans", names)
    (scans / "bad.nii.gz").write_bytes(b"no scan")
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    ended, kills = [], []

    def after(end):
        ended.append(end)
        if len(ended) in (3, 9) and kill_a_worker(batch):
            kills.append(end.scan)

    Crew(batch, 2, WorkerOptions(2), on_scan=after).run()
    assert kills, "no worker was killed, so nothing is shown"
    assert states(batch) == {**dict.fromkeys(names, "done"), "bad": "failed"}
    events = [event["event"] for record in BatchReader(batch).records() for event in record.history]
    assert (events.count("done"), events.count("failed")) == (16, 1) and events.count("died") >= 1
    request_for(scans, tmp_path / "plain", Outputs()).predict(
        OnThisMachine(lambda: Predictor(load_model(model), EXACT))
    )
    for name in names:
        labels = (tmp_path / "out" / f"{name}.nii.gz").read_bytes()
        assert labels == (tmp_path / "plain" / f"{name}.nii.gz").read_bytes()
    assert sorted(path.name for path in batch.path.iterdir() if path.is_file()) == [f"{name}.nii.gz" for name in names]


@pytest.mark.slow
def test_two_thousand_entries_with_a_worker_killed_every_hundred(tmp_path):
    names = [f"scan{number:04d}" for number in range(1980)]
    batch = listed_batch(tmp_path, [*names, *(f"bad{number:02d}" for number in range(20))])
    ended, killed = [], []

    def after(end):
        ended.append(end)
        if len(ended) % 100 == 0 and kill_a_worker(batch):
            killed.append(end.scan)

    Crew(batch, 2, on_scan=after, entry=fake_worker).run()
    assert len(killed) >= 15
    events = [event["event"] for record in BatchReader(batch).records() for event in record.history]
    assert (events.count("done"), events.count("failed"), events.count("retry")) == (1980, 20, 0)
    assert events.count("died") >= 1 and events.count("claimed") == 2000 + events.count("died")
    assert dict.fromkeys(names, "done").items() <= states(batch).items()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == names
    assert all((tmp_path / name).read_text() == name for name in names)


@pytest.mark.slow
def test_two_thousand_scans_with_a_worker_killed_every_hundred(tmp_path, model):
    names = [f"scan{number:04d}" for number in range(1980)]
    scans = write_scans(tmp_path / "scans", names[:20])
    for number, name in enumerate(names[20:]):
        os.link(scans / f"{names[number % 20]}.nii.gz", scans / f"{name}.nii.gz")
    for number in range(20):
        (scans / f"bad{number:02d}.nii.gz").write_bytes(b"no scan")
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    ended, killed, memory = [], [], []

    def after(end):
        ended.append(end)
        memory.append(end.peak_memory)
        if len(ended) % 100 == 0 and kill_a_worker(batch):
            killed.append(end.scan)

    files_before = len(os.listdir("/proc/self/fd"))
    Crew(batch, 2, WorkerOptions(2), on_scan=after).run()
    work(batch, Event())
    status = BatchReader(batch).status()
    print(f"{len(killed)} workers killed, {max(memory) / 2**20:.0f} MiB at most; {status}")
    assert (status.states["done"], status.states["failed"], status.states["set aside"]) == (1980, 20, 0)
    assert len(killed) >= 15
    assert len(list(batch.path.glob("*.nii.gz"))) == 1980
    events = [event["event"] for record in BatchReader(batch).records() for event in record.history]
    assert (events.count("done"), events.count("failed")) == (1980, 20)
    first = {name: (batch.path / f"{name}.nii.gz").read_bytes() for name in names[:20]}
    for number, name in enumerate(names[20:]):
        assert (batch.path / f"{name}.nii.gz").read_bytes() == first[names[number % 20]]
    assert len(os.listdir("/proc/self/fd")) <= files_before + 2
