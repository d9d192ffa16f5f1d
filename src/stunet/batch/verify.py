"""Check that every output of a batch exists, unchanged, and was made with the batch's model and settings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stunet.batch.label_record import damages
from stunet.batch.ledger import Ledger
from stunet.batch.prediction_record import ANSWER_SETTINGS
from stunet.batch.settings import BatchFolder, model_digests
from stunet.batch.status import BatchReader, ScanRecord
from stunet.errors import FileError, listed

READERS = 4
"""Files that are read at a time."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a scan of a batch.

    Attributes:
        scan: by name.
        problem: a sentence; None where its outputs are as they were written.
        is_damaged: whether it was finished, but its outputs are missing or changed.
    """

    scan: str
    problem: str | None = None
    is_damaged: bool = False


@dataclass(frozen=True)
class Verification:
    """What became of a batch's outputs.

    Attributes:
        verdicts: one for each scan, in order of name.
        redone: how many damaged scans were put back into the queue.
    """

    verdicts: tuple[Verdict, ...]
    redone: int = 0

    @property
    def problems(self) -> dict[str, str]:
        """The sentence of each scan of which something is wrong."""
        return {one.scan: one.problem for one in self.verdicts if one.problem is not None}


def verify_batch(
    folder: BatchFolder, redo: bool = False, on_scan: Callable[[int, int], None] = lambda done, total: None
) -> Verification:
    """Read all outputs of a batch, and compare them with its ledger.

    Args:
        folder: of the batch.
        redo: put scans with missing or changed outputs back into the queue.
        on_scan: called with how many scans were checked, and how many there are.

    Raises:
        UserError: there is no batch, or the ledger cannot be written.
    """
    records = BatchReader(folder).records()
    digests = model_digests(folder)
    answer = _answer(folder)
    verdicts = []
    with ThreadPoolExecutor(READERS) as readers:
        for verdict in readers.map(lambda record: _verdict(folder.path, record, digests, answer), records):
            verdicts.append(verdict)
            on_scan(len(verdicts), len(records))
    redone = sum(_put_back(folder, records, verdicts)) if redo else 0
    return Verification(tuple(verdicts), redone)


def _verdict(root: Path, record: ScanRecord, digests: Mapping[str, Any], answer: Mapping[str, Any]) -> Verdict:
    name, done = record.scan.name, record.state.last
    if record.state.state != "done":
        return Verdict(name, record.error or f"{name}: is not finished ({record.state.state}).")
    if any(done.get("model", {}).get(digest) != value for digest, value in digests.items()):
        return Verdict(name, f"{name}: was segmented with another model.", True)
    if differing := [key for key, value in answer.items() if done.get("answer", {}).get(key) != value]:
        return Verdict(name, f"{name}: was segmented with other settings ({', '.join(differing)}).", True)
    if not done.get("outputs"):
        return Verdict(name, f"{name}: the ledger does not say which files were written.", True)
    problem = next(damages(root, done["outputs"]), None)
    return Verdict(name, problem, problem is not None)


def _answer(folder: BatchFolder) -> dict[str, Any]:
    """The settings that change labels, as the batch states them."""
    inference = folder.settings().inference
    missing = [key for key in ANSWER_SETTINGS if key not in inference]
    if missing:
        raise FileError(f"{folder.path}: the settings of the batch have no {listed(missing)}.")
    return {key: inference[key] for key in ANSWER_SETTINGS}


def _put_back(folder: BatchFolder, records: Sequence[ScanRecord], verdicts: Sequence[Verdict]) -> Iterator[bool]:
    ledger = Ledger(folder.ledger)
    for record, verdict in zip(records, verdicts, strict=True):
        if verdict.is_damaged:
            yield ledger.append(verdict.scan, record.state.events, "retry")
