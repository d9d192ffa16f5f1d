import json

import pytest

from stunet.batch.ledger import Ledger
from stunet.batch.verify import verify_batch
from stunet.files import file_sha256
from tests.batch.batches import INFERENCE, listed_batch

ANSWER = {key: INFERENCE[key] for key in ("step", "mirror", "whole_scan", "skip_air", "least_spacing")} | {
    "classes": []
}
DIGESTS = {"card_sha256": "c", "weights_sha256": "w"}


@pytest.fixture
def batch(tmp_path):
    """Five scans that are done, and one that failed."""
    batch = listed_batch(tmp_path, [*"abcde", "failed"])
    ledger = Ledger(batch.ledger)
    ledger.create(batch.ledger / "model.json", DIGESTS)
    for name in "abcde":
        path = tmp_path / f"{name}.nii.gz"
        path.write_bytes(name.encode() * 100)
        outputs = {path.name: {"bytes": 100, "sha256": file_sha256(path)}}
        changes = {"answer": {**ANSWER, "step": 0.7}} if name == "d" else {}
        changes |= {"model": {**DIGESTS, "weights_sha256": "others"}} if name == "e" else {}
        ledger.append(name, 0, "claimed", worker="w")
        ledger.append(name, 1, "done", **{"outputs": outputs, "model": DIGESTS, "answer": ANSWER, **changes})
    ledger.append("failed", 0, "claimed", worker="w")
    ledger.append("failed", 1, "failed", error="it is damaged", kind="damaged")
    return batch


def test_each_output_is_compared_with_what_was_written(batch):
    assert set(verify_batch(batch).problems) == {"d", "e", "failed"}
    (batch.path / "a.nii.gz").unlink()
    (batch.path / "b.nii.gz").write_bytes(b"b" * 99)
    (batch.path / "c.nii.gz").write_bytes(b"x" * 100)
    problems = verify_batch(batch).problems
    assert problems["a"] == f"{batch.path / 'a.nii.gz'}: is missing."
    assert problems["b"].endswith("has 99 bytes, and 100 were written.")
    assert problems["c"].endswith("was changed after it was written.")
    assert problems["d"] == "d: was segmented with other settings (step)."
    assert problems["e"] == "e: was segmented with another model."
    assert problems["failed"] == "it is damaged"


def test_damaged_outputs_are_put_back_into_the_queue(batch):
    (batch.path / "a.nii.gz").unlink()
    assert verify_batch(batch, redo=True).redone == 3
    ledger = Ledger(batch.ledger)
    ledger.refresh()
    states = {name: ledger.state(name).state for name in ("a", "b", "d", "e", "failed")}
    assert states == {"a": "waiting", "b": "done", "d": "waiting", "e": "waiting", "failed": "failed"}


def test_what_is_not_finished_is_said(batch):
    ledger = Ledger(batch.ledger)
    ledger.refresh()
    ledger.append("a", 2, "retry")
    assert verify_batch(batch).problems["a"] == "a: is not finished (waiting)."
    assert json.loads((batch.ledger / "model.json").read_text()) == DIGESTS
