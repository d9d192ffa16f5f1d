"""The ledger as one table, a row for each scan: CSV, lines of JSON, or Parquet."""

import csv
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from stunet.batch.event import Event
from stunet.batch.status import ScanRecord, output_bytes
from stunet.errors import OutputError
from stunet.extras import from_extra
from stunet.files import as_json, replacing, require_output

STAGES = ("load", "preprocess", "network", "labelling", "write", "total")
ENDINGS = (".csv", ".jsonl", ".parquet")


def row_of(record: ScanRecord) -> dict[str, Any]:
    """A scan's row: plain values, None where they are not known."""
    last = record.state.last
    claims = [event["at"] for event in record.history if event["event"] == "claimed"]
    return {
        "scan": record.scan.name,
        "state": record.state.state,
        "tries": record.state.tries,
        "deaths": record.state.deaths,
        "worker": last.get("worker"),
        "claimed": _moment(claims[-1]) if claims else None,
        "ended": _moment(last["at"]) if record.state.is_final else None,
        "input": " ".join(file.path for file in record.scan.files),
        **_result(last if record.state.state == "done" else {}),
        "error_kind": record.kind,
        "error": record.error,
    }


def _result(done: Event) -> dict[str, Any]:
    """What came out of a scan that is done; None and empty texts for one that is not."""
    parts = ("seconds", "versions", "backend", "model", "input", "outputs")
    seconds, versions, backend, model, read, outputs = (done.get(part, {}) for part in parts)
    return {
        **{f"seconds_{stage}": seconds.get(stage) for stage in STAGES},
        "peak_memory_mib": done.get("peak_memory_mib"),
        "stunet": versions.get("stunet"),
        "torch": versions.get("torch"),
        "backend": backend.get("name"),
        "card_sha256": model.get("card_sha256"),
        "weights_sha256": model.get("weights_sha256"),
        "input_bytes": read.get("bytes"),
        "input_sha256": read.get("sha256"),
        "outputs": " ".join(outputs),
        "output_bytes": output_bytes(done) if done else None,
        "output_sha256": " ".join(one.get("sha256", "") for one in outputs.values()),
        "warnings": " ".join(done.get("warnings", ())),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")


def require_table(path: Path) -> None:
    """Raises UserError if a table cannot be written to this path."""
    if path.suffix not in ENDINGS:
        raise OutputError(f"{path}: a table ends in one of {', '.join(ENDINGS)}.")
    require_output(path)


def write_table(path: Path, records: Sequence[ScanRecord]) -> None:
    """Write the table in the format of the suffix.

    Raises:
        UserError: another suffix than `ENDINGS`, Parquet without its package, or a file that cannot be written.
    """
    require_table(path)
    rows = [row_of(record) for record in records]
    with replacing(path) as temporary:
        if path.suffix == ".parquet":
            _write_parquet(temporary, rows)
        elif path.suffix == ".jsonl":
            temporary.write_text("".join(as_json(row, indent=None) + "\n" for row in rows), encoding="utf-8")
        else:
            with temporary.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)


def _write_parquet(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    with from_extra("batch"):
        import pyarrow
        from pyarrow import parquet
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), path)
