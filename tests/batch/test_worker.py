import errno
import json
import os
from threading import Event

import pytest

from stunet.batch import workbench as workbench_module
from stunet.batch.label_record import record_of
from stunet.batch.outputs import Outputs
from stunet.batch.prediction_record import labels_of
from stunet.batch.request import request_for
from stunet.batch.segmenter import OnThisMachine
from stunet.batch.start import start_batch
from stunet.batch.status import BatchReader
from stunet.batch.worker import work
from stunet.errors import OutputError, UserError
from stunet.files import file_sha256
from stunet.inference.predictor import Predictor
from stunet.weights.model import load_model
from stunet.weights.model_file import save_model
from tests.batch.batches import settings, write_scans
from tests.inference.samples import EXACT, card, plan, tiny_network


@pytest.fixture
def scans(tmp_path):
    return write_scans(tmp_path / "scans", ["a", "b", "c"])


def states(batch):
    return {record.scan.name: record.state.state for record in BatchReader(batch).records()}


def test_labels_are_those_of_predict_and_a_corrupt_scan_costs_only_itself(tmp_path, model, scans):
    (scans / "bad.nii.gz").write_bytes(b"no scan")
    batch = start_batch([str(scans)], tmp_path / "out", settings(model, written={"statistics": True})).folder
    ends = []
    work(batch, Event(), ends.append)
    predictor = Predictor(load_model(model), EXACT)
    request_for(scans, tmp_path / "plain", Outputs(statistics=True)).predict(OnThisMachine(lambda: predictor))
    written = {path.name for path in (tmp_path / "plain").iterdir()} - {"stunet_report.json", "stunet_cases.jsonl"}
    assert written == {f"{name}.{ending}" for name in "abc" for ending in ("nii.gz", "statistics.json")}
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} == written
    for name in written:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    assert states(batch) == {"a": "done", "b": "done", "bad": "failed", "c": "done"}
    assert sorted(end.scan for end in ends) == ["a", "b", "bad", "c"]
    assert [end.scan for end in ends if "bad.nii.gz" in (end.error or "")] == ["bad"]
    assert not (batch.ledger / "staging").exists()


def test_a_record_says_what_was_read_written_and_by_what(tmp_path, model, scans):
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    work(batch, Event())
    done = BatchReader(batch).records()[0].state.last
    assert done["input"] == {
        "bytes": (scans / "a.nii.gz").stat().st_size,
        "sha256": file_sha256(scans / "a.nii.gz"),
    }
    path = tmp_path / "out" / "a.nii.gz"
    described = {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
    assert done["outputs"] == {"a.nii.gz": described}
    assert set(done["seconds"]) == {"load", "preprocess", "network", "labelling", "write", "total"}
    parts = [value for stage, value in done["seconds"].items() if stage != "total"]
    assert done["seconds"]["total"] == pytest.approx(sum(parts), abs=0.01)
    assert done["model"]["weights_sha256"] == load_model(model).weights_sha256
    assert done["versions"]["stunet"] and done["peak_memory_mib"] > 0 and done["worker"]


def test_the_record_of_labels_is_found_again(tmp_path, model, scans):
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    assert record_of(tmp_path / "out" / "a.nii.gz") == {}
    work(batch, Event())
    record = record_of(tmp_path / "out" / "a.nii.gz")
    assert labels_of(record).names == {1: "class_1", 2: "class_2"}
    assert (
        record["settings"]["step"] == 0.5
        and record["scan"] == "a"
        and set(record["volumes_mm3"])
        == {
            "class_1",
            "class_2",
        }
    )
    assert record_of(tmp_path / "out" / "none.nii.gz") == {} == record_of(tmp_path / "a.nii.gz")


def test_a_full_disk_ends_the_batch_with_a_sentence_and_costs_no_scan(tmp_path, model, scans, monkeypatch):
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    replace, moved = os.replace, []

    def full_after_one(source, destination):
        if os.path.dirname(destination) == str(batch.path):
            moved.append(destination)
            if len(moved) > 1:
                raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, destination)

    monkeypatch.setattr(workbench_module.Path, "replace", lambda self, target: full_after_one(str(self), str(target)))
    with pytest.raises(OutputError, match=r"cannot be written \(No space left on device\)\. What is finished is kept"):
        work(batch, Event())
    assert sorted(states(batch).values()) == ["done", "waiting", "waiting"]
    monkeypatch.undo()
    work(batch, Event())
    assert set(states(batch).values()) == {"done"}
    assert all(record.state.tries == 1 for record in BatchReader(batch).records())


def test_a_stop_gives_back_what_is_not_finished(tmp_path, model, scans):
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    stop = Event()
    work(batch, stop, lambda end: stop.set())
    found = states(batch)
    assert "working" not in found.values() and "waiting" in found.values() and "done" in found.values()
    assert {path.name for path in batch.path.glob("*.nii.gz")} == {
        f"{name}.nii.gz" for name, state in found.items() if state == "done"
    }
    work(batch, Event())
    assert set(states(batch).values()) == {"done"}


def test_another_model_under_the_same_name_is_refused(tmp_path, scans):
    path = tmp_path / "model.safetensors"
    for seed in (0, 1):
        network = tiny_network(num_classes=3, seed=seed)
        save_model(path, network.state_dict(), card(network, plan()))
        batch = start_batch([str(scans)], tmp_path / "out", settings(path)).folder
        if seed == 0:
            work(batch, Event())
            write_scans(scans, ["a", "b", "c", "d"])
    with pytest.raises(UserError, match="is not the model that this batch began with"):
        work(batch, Event())
    assert states(batch)["d"] == "waiting"


def test_a_scan_that_changes_while_it_is_read_fails(tmp_path, model, scans, monkeypatch):
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    read = workbench_module.as_volume

    def read_and_touch(path):
        volume = read(path)
        if path.name == "b.nii.gz":
            os.utime(path, (1, 1))
        return volume

    monkeypatch.setattr(workbench_module, "as_volume", read_and_touch)
    work(batch, Event())
    assert states(batch) == {"a": "done", "b": "failed", "c": "done"}
    (sentence,) = BatchReader(batch).status().errors.values()
    assert sentence.startswith(f"{scans / 'b.nii.gz'}: changed while it was read.")


def test_a_worker_that_was_taken_for_dead_writes_nothing(tmp_path, model, scans, monkeypatch):
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    write_outputs = workbench_module.write_outputs

    def slowly(segmentation, path, outputs, title=""):
        if title == "b":
            other = workbench_module.Ledger(batch.ledger, "other")
            assert other.append("b", 1, "died", worker="slow") and other.append("b", 2, "claimed", worker="other")
            other.append("b", 3, "failed", worker="other", error="other", kind="other")
        return write_outputs(segmentation, path, outputs, title)

    monkeypatch.setattr(workbench_module, "write_outputs", slowly)
    ends = []
    work(batch, Event(), ends.append)
    assert not (batch.path / "b.nii.gz").exists()
    assert BatchReader(batch).status().errors == {"b": "other"}
    assert ["taken for dead" in (end.error or "") for end in ends if end.scan == "b"] == [True]


def test_settings_of_a_batch_are_written_once_and_compared(tmp_path, model, scans):
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    assert start_batch([str(scans)], tmp_path / "out", settings(model)).scans == 3
    changed = settings(model, inference={**settings(model).inference, "step": 0.7})
    with pytest.raises(UserError, match=r"holds a batch with other settings \(step was 0\.5, now 0\.7\)"):
        start_batch([str(scans)], tmp_path / "out", changed)
    stored = json.loads((batch.ledger / "batch.json").read_text())
    assert batch.settings().to_dict() == stored and batch.settings().channels == ("channel_0",)
