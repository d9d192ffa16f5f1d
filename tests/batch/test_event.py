"""What a shared folder holds is believed only where it is an event."""

import pytest

from stunet.batch.event import is_event
from stunet.batch.ledger import Ledger
from tests.batch.batches import listed_batch

DONE = {
    "event": "done",
    "worker": "w",
    "at": 10.0,
    "seconds": {"load": 1.0, "total": 3.0},
    "peak_memory_mib": None,
    "outputs": {"a.nii.gz": {"bytes": 7, "sha256": "f00d"}},
    "warnings": ["odd"],
}


def test_events_of_this_version_are_events():
    assert is_event(DONE) and is_event({"event": "done"})
    for event in ("claimed", "released", "died", "failed", "retry"):
        assert is_event({"event": event, "scan": "a", "at": 0.5, "worker": "w", "anything": [None]})


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "finished"},
        {"event": ["done"]},
        {"at": float("nan")},
        {"at": 1e300},
        {"at": True},
        {"worker": {}},
        {"seconds": {"total": "3"}},
        {"peak_memory_mib": "100"},
        {"outputs": {"a": {"sha256": "f00d"}}},
        {"outputs": ["a"]},
        {"warnings": "odd"},
        {"model": None},
    ],
    ids=str,
)
def test_others_are_none(changes):
    assert not is_event({**DONE, **changes})


def test_what_is_no_event_counts_as_a_claim_of_nobody_known(tmp_path):
    batch = listed_batch(tmp_path, ["a"])
    ledger = Ledger(batch.ledger)
    ledger.append("a", 0, "done", seconds="all", outputs="../../x")
    reader = Ledger(batch.ledger, details=("at",))
    reader.refresh()
    assert reader.state("a").state == "working" and reader.state("a").worker == ""
    assert reader.last_event("a") == reader.history("a")[-1]
