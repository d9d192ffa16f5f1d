"""What is known of labels that were written earlier: one reader for the records of `stunet predict` and of a batch."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stunet.batch.durable import files_below
from stunet.batch.ledger import Ledger
from stunet.batch.listing import ScanLists
from stunet.batch.prediction_record import record_beside
from stunet.batch.settings import MODEL, BatchFolder
from stunet.errors import OutputError
from stunet.files import file_sha256, read_json_object
from stunet.imaging.formats.registry import without_suffix


def record_of(labels: Path) -> dict[str, Any]:
    """The record of the run that wrote labels; empty where there is none.

    Args:
        labels: a label map, or a folder of masks, where it was written.

    Returns:
        `versions`, `backend`, `model` (`name`, `source`, `card_sha256`, `labels`), `settings`, `outputs` (name of each
            file -> `bytes` and `sha256`; older records have none) and `scan_paths` (one for each channel).

    Raises:
        UserError: a record that cannot be read.
    """
    record = record_beside(labels)
    if record:
        return {**record, "scan_paths": [record["input"]] if "input" in record else []}
    return _batch_record(labels)


def _batch_record(labels: Path) -> dict[str, Any]:
    folder, name = BatchFolder(labels.parent), without_suffix(labels)
    ledger = Ledger(folder.ledger)
    done = ledger.last_event(name)
    if done is None or done["event"] != "done":
        return {}
    lists = ScanLists(ledger)
    lists.refresh()
    scan = [file.path for file in lists.scans[name].files] if name in lists.scans else []
    settings = folder.settings()
    model = {**read_json_object(folder.ledger / MODEL), "source": settings.model}
    return {**done, "model": model, "settings": settings.inference, "folds": list(settings.folds), "scan_paths": scan}


def size_and_hash(path: Path) -> dict[str, Any]:
    """Size and hash of a file, as records have them."""
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}


def hashed_outputs(labels: Path) -> dict[str, dict[str, Any]]:
    """Size and hash of a label map, or of each mask in a folder, by its path relative to the folder around.

    Raises:
        OutputError: it is no longer there, or cannot be read.
    """
    try:
        files = files_below(labels) if labels.is_dir() else (labels,)
        return {path.relative_to(labels.parent).as_posix(): size_and_hash(path) for path in files}
    except OSError as error:
        raise OutputError(f"{labels}: was written, but cannot be read again ({error.strerror or error}).") from error


def damages(root: Path, outputs: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """How files differ from what was written, as sentences.

    Args:
        root: the folder that the names are relative to.
        outputs: of a record.
    """
    for name, written in outputs.items():
        path = root / name
        if not path.is_file():
            yield f"{path}: is missing."
        elif path.stat().st_size != written["bytes"]:
            yield f"{path}: has {path.stat().st_size} bytes, and {written['bytes']} were written."
        elif file_sha256(path) != written.get("sha256"):
            yield f"{path}: was changed after it was written."
