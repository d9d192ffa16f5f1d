"""Read a manifest: a table that names the scans of a batch, in CSV or Parquet."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stunet.batch.find_scans import scan_name
from stunet.batch.listing import ListedFile, ListedScan, require_plain_name
from stunet.batch.store import is_url
from stunet.errors import FileError, listed
from stunet.extras import from_extra

CSV, PARQUET = ".csv", ".parquet"
MANIFESTS = (CSV, PARQUET)

SCAN, NAME, CHANNEL = "scan", "name", "channel_"
"""Columns of a manifest: a path, what its outputs are called, and the paths of further channels (channel_0001, ...)."""


def read_manifest(path: Path, channels: int) -> list[ListedScan]:
    """The scans in a table: a column `scan` with paths and, where wanted, `name` and `channel_0001` and so on.

    Paths are relative to the manifest's folder. Whether they exist is seen when they are read: a missing file costs its
    own scan.

    Args:
        path: a file that ends in one of `MANIFESTS`.
        channels: that the model takes.

    Raises:
        UserError: it cannot be read, or lacks a column or a path.
    """
    rows = _read_parquet(path) if path.suffix.lower() == PARQUET else _read_csv(path)
    columns = [SCAN, *(f"{CHANNEL}{number:04d}" for number in range(1, channels))]
    missing = [name for name in columns if not rows or name not in rows[0]]
    if missing:
        raise FileError(f"{path}: has no column {listed(missing)}; the first line of a manifest names its columns.")
    return [_row(path, number, row, columns) for number, row in enumerate(rows, 2)]


def _read_csv(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))
    except (OSError, ValueError, csv.Error) as error:
        raise FileError(f"{path}: is not a table in CSV ({error}).") from error


def _read_parquet(path: Path) -> list[dict[str, Any]]:
    """The rows; only the columns that a manifest has are read."""
    with from_extra("batch"):
        from pyarrow import ArrowException, parquet
    try:
        with path.open("rb") as file:
            table = parquet.ParquetFile(file)
            known = [name for name in table.schema_arrow.names if name in (SCAN, NAME) or name.startswith(CHANNEL)]
            rows: list[dict[str, Any]] = table.read(known).to_pylist()
    except (OSError, ValueError, ArrowException) as error:
        raise FileError(f"{path}: is not a table in Parquet ({error}).") from error
    return [{name: None if value is None else str(value) for name, value in row.items()} for row in rows]


def _row(path: Path, line: int, row: Mapping[str, Any], columns: Sequence[str]) -> ListedScan:
    files = [row[column] for column in columns]
    if not all(files):
        raise FileError(f"{path}: line {line} lacks a path.")
    name = row.get(NAME) or scan_name(Path(files[0]))
    try:
        require_plain_name(name)
    except ValueError as error:
        raise FileError(f"{path}: line {line}: {error}.") from error
    return ListedScan(name, tuple(ListedFile(_beside(path, file)) for file in files))


def _beside(manifest: Path, file: str) -> str:
    """A path in a manifest: absolute, relative to it, or of a store."""
    return file if is_url(file) else str((manifest.parent / file).absolute())
