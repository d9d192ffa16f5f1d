import inspect
import json
import tracemalloc

import pytest

from stunet.batch.ledger import Ledger, state_of


@pytest.mark.parametrize(
    ("history", "state", "tries", "deaths"),
    [
        ("", "waiting", 0, 0),
        ("claimed", "working", 1, 0),
        ("claimed released", "waiting", 0, 0),
        ("claimed done", "done", 1, 0),
        ("claimed failed", "failed", 1, 0),
        ("claimed died", "waiting", 1, 1),
        ("claimed died claimed done", "done", 2, 1),
        ("claimed died claimed released claimed died", "set aside", 2, 2),
        ("claimed died claimed died retry", "waiting", 0, 0),
        ("claimed failed retry claimed", "working", 1, 0),
        ("claimed done retry claimed died", "waiting", 1, 1),
    ],
)
def test_a_history_amounts_to_a_state(history, state, tries, deaths):
    found = state_of([{"event": event} for event in history.split()])
    assert (found.state, found.tries, found.deaths, found.events) == (state, tries, deaths, len(history.split()))


def test_who_appends_first_wins_and_the_other_sees_it(tmp_path):
    one, other = Ledger(tmp_path, "one"), Ledger(tmp_path, "other")
    assert one.append("scan", 0, "claimed", worker="one")
    assert not other.append("scan", 0, "claimed", worker="other")
    assert other.state("scan").state == "waiting"
    other.refresh()
    assert other.state("scan").worker == "one" and other.state("scan").state == "working"
    assert other.append("scan", 1, "died", worker="one")
    assert not one.append("scan", 1, "done"), "a worker that was taken for dead cannot finish"
    one.refresh()
    assert [event["event"] for event in one.history("scan")] == ["claimed", "died"]
    assert not list((tmp_path / "drafts").iterdir())


def test_names_may_be_as_long_and_odd_as_file_names(tmp_path):
    names = ["n" * 255, "Bj\udcf6rn", "a/../b"]
    ledger = Ledger(tmp_path)
    assert all(ledger.append(name, 0, "claimed", worker="") for name in names)
    again = Ledger(tmp_path)
    again.refresh()
    assert all(again.state(name).state == "working" for name in names)
    assert all(path.is_relative_to(tmp_path / "records") for path in tmp_path.rglob("*.1"))


def test_an_event_that_is_half_written_is_a_claim_until_it_is_whole(tmp_path):
    ledger = Ledger(tmp_path)
    ledger.append("scan", 0, "claimed", worker="w")
    ledger.append("scan", 1, "done")
    (path,) = tmp_path.rglob("*.2")
    whole = path.read_bytes()
    path.write_bytes(whole[:9])
    again = Ledger(tmp_path)
    again.refresh()
    assert again.state("scan").state == "working" and again.state("scan").worker == ""
    path.write_bytes(whole)
    again.refresh()
    assert again.state("scan").state == "done"


def test_what_was_read_is_not_read_again(tmp_path, monkeypatch):
    ledger = Ledger(tmp_path)
    for number in range(20):
        ledger.append(f"scan{number}", 0, "claimed", worker="w")
    reader, read = Ledger(tmp_path), []
    loads = json.loads
    monkeypatch.setattr(json, "loads", lambda text: read.append(text) or loads(text))
    reader.refresh()
    reader.refresh()
    assert len(read) == 20
    ledger.append("scan3", 1, "done")
    reader.refresh()
    assert len(read) == 21 and reader.state("scan3").state == "done"


def test_a_worker_remembers_little_of_a_finished_scan(tmp_path):
    """It runs for days. Each scan took more than 800 bytes when each event was kept by itself.

    What the ledger itself allocates is counted, because other parts of Python grow tables of their own in steps.
    """
    volumes = {str(label): 1.5 for label in range(100)}
    ledger, scans = Ledger(tmp_path), [f"scan{number}" for number in range(600)]
    tracemalloc.start()
    try:
        for scan in scans:
            ledger.append(scan, 0, "claimed", worker="w")
            ledger.append(scan, 1, "done", worker="w", volumes_mm3=volumes)
        own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, inspect.getfile(Ledger))])
    finally:
        tracemalloc.stop()
    assert ledger.history(scans[0])[1] is ledger.history(scans[1])[1]
    assert sum(trace.size for trace in own.traces) / len(scans) < 300
