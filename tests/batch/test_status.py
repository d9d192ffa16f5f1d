import csv
import json

import pytest

from stunet.batch.ledger import Ledger
from stunet.batch.settings import BatchFolder
from stunet.batch.status import BatchReader, paces, status_of
from stunet.batch.table import write_table
from stunet.errors import FileError, OutputError
from tests.batch.batches import listed_batch


def done(total, memory=100):
    return {
        "seconds": {"load": 1.0, "total": total},
        "peak_memory_mib": memory,
        "outputs": {"a.nii.gz": {"bytes": 7, "sha256": "f00d"}},
        "input": {"bytes": 30, "sha256": "beef"},
        "model": {"card_sha256": "c", "weights_sha256": "w"},
        "versions": {"stunet": "1", "torch": "2"},
        "warnings": ["odd", "old"],
    }


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """Of six scans worker w has done two in 20 seconds, failed at one, and works on one; one is set aside."""
    batch = listed_batch(tmp_path, list("abcdef"))
    ledger, now = Ledger(batch.ledger), [1000.0]
    monkeypatch.setattr("stunet.batch.ledger.time.time", lambda: now[0])
    for name, event, details in (
        ("a", "claimed", {}),
        ("a", "done", done(4.0)),
        ("b", "claimed", {}),
        ("b", "done", done(6.0, 300)),
        ("c", "claimed", {}),
        ("c", "failed", {"error": "c is damaged", "kind": "damaged"}),
        ("d", "claimed", {}),
    ):
        ledger.append(name, len(ledger.history(name)), event, worker="w", **details)
        now[0] += 5.0
    for event in ("claimed", "died") * 2:
        ledger.append("e", len(ledger.history("e")), event, worker="gone")
    return batch


def test_a_status_counts_and_reckons(batch):
    status = status_of(BatchReader(batch).records(), {"w"})
    assert status.states == {"waiting": 1, "working": 1, "done": 2, "failed": 1, "set aside": 1}
    assert status.failures == {"damaged": 1, "worker died": 1}
    assert status.workers == 1
    assert status.scans_per_hour == 360.0, "three scans ended in 30 seconds"
    assert status.seconds_left == 20.0
    assert status.mean_seconds == {"load": 1.0, "total": 5.0}
    assert status.peak_memory_mib == 300
    assert status.errors["c"] == "c is damaged" and "/scans/e.nii: set aside" in status.errors["e"]


def test_workers_that_are_dead_count_for_nothing(batch):
    status = BatchReader(batch).status()
    assert status.states["working"] == 1, "nobody has taken over yet"
    assert (status.workers, status.scans_per_hour, status.seconds_left) == (0, None, None)


def test_a_clock_that_goes_back_gives_no_rate_and_no_error(tmp_path, monkeypatch):
    batch = listed_batch(tmp_path, ["a", "b"])
    ledger, times = Ledger(batch.ledger), [5000.0, 100.0, 100.0]
    monkeypatch.setattr("stunet.batch.ledger.time.time", lambda: times.pop(0))
    ledger.append("a", 0, "claimed", worker="w")
    ledger.append("a", 1, "done", worker="w", **done(1.0))
    ledger.append("b", 0, "claimed", worker="other")
    records = BatchReader(batch).records()
    assert status_of(records, {"other"}).states["done"] == 1
    assert all(pace.seconds > 0 for pace in paces(records).values())
    assert status_of(records, {"other"}).seconds_left is None, "of the worker that works now nothing is known"


def test_a_table_has_a_row_for_each_scan(batch, tmp_path):
    records = BatchReader(batch).records()
    write_table(tmp_path / "t.csv", records)
    rows = {row["scan"]: row for row in csv.DictReader((tmp_path / "t.csv").open())}
    assert list(rows) == list("abcdef")
    assert rows["a"]["state"] == "done" and rows["a"]["seconds_total"] == "4.0" and rows["a"]["output_sha256"] == "f00d"
    assert rows["a"]["claimed"] == "1970-01-01T00:16:40+00:00" and rows["a"]["warnings"] == "odd old"
    assert rows["c"]["error"] == "c is damaged" and rows["c"]["output_bytes"] == ""
    assert (rows["e"]["tries"], rows["e"]["deaths"]) == ("2", "2")
    write_table(tmp_path / "t.jsonl", records)
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert {line["scan"]: line["input_bytes"] for line in lines}["a"] == 30 and lines[5]["worker"] is None
    with pytest.raises(OutputError, match="a table ends in one of"):
        write_table(tmp_path / "t.xlsx", records)


def test_a_table_in_parquet(batch, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (extra batch)")
    write_table(tmp_path / "t.parquet", BatchReader(batch).records())
    assert parquet.read_table(tmp_path / "t.parquet").column("scan").to_pylist() == list("abcdef")


def test_no_batch_is_a_sentence(tmp_path):
    with pytest.raises(FileError, match=r"there is no batch\. Start one with stunet batch SOURCE -o"):
        BatchReader(BatchFolder(tmp_path))
