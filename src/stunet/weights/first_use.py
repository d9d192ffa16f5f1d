"""What is known of a model's files: from the catalogue, and from their first use on this machine.

A download whose revision and SHA-256 are in the catalogue must have these. On first use, `base.json` records the
SHA-256 of the download and of the model file made from it; later files that differ are refused.
"""

import json
from pathlib import Path
from typing import Any

from stunet.errors import FileError
from stunet.files import file_sha256, write_json
from stunet.weights.catalogue import CatalogueEntry


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def read_record(path: Path) -> dict[str, Any]:
    """The record of a model file; {} before first use.

    Raises:
        UserError: the record cannot be read.
    """
    record = _record_path(path)
    if not record.exists():
        return {}
    try:
        return dict(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise FileError(f"{record} is damaged ({error}); delete it to record the model again.") from error


def require_unchanged(path: Path) -> None:
    """Compare a model file with its record. It is read only if its modification time or size has changed.

    Raises:
        UserError: it has changed.
    """
    record = read_record(path)
    stat = path.stat()
    if (record.get("bytes"), record.get("modified_ns")) != (stat.st_size, stat.st_mtime_ns):
        require_recorded(path, file_sha256(path))


def require_recorded(path: Path, sha256: str) -> None:
    """Compare the hash of a model file with the recorded one, or record it if there is none yet.

    Raises:
        UserError: they differ.
    """
    record = read_record(path)
    recorded = str(record.get("sha256", sha256))
    if recorded != sha256:
        raise FileError(
            f"{path} has changed since its first use (SHA-256 {sha256[:12]}..., recorded {recorded[:12]}...). It was "
            f"refused: delete it to download it again, or delete {_record_path(path).name} too if you trust it."
        )
    stat = path.stat()
    write_json(_record_path(path), {**record, "sha256": sha256, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns})


def record_source(entry: CatalogueEntry, url: str, sha256: str) -> None:
    """Record where a model was downloaded from, and the hash of the download."""
    write_json(_record_path(entry.path), {"source": url, "source_sha256": sha256})


def require_source(entry: CatalogueEntry, sha256: str | None) -> None:
    """Refuse a published file that differs from the catalogue's, or from the one of first use.

    Raises:
        UserError: it differs.
    """
    require_known(entry, sha256)
    recorded = read_record(entry.path).get("source_sha256")
    if None not in (recorded, sha256) and recorded != sha256:
        raise FileError(
            f"{entry.file} of {entry.repository} is no longer the file that was first downloaded (its SHA-256 has "
            f"changed). It was refused: delete {_record_path(entry.path)} if you trust the new one."
        )


def require_known(entry: CatalogueEntry, sha256: str | None) -> None:
    """Refuse a file that differs from the catalogue's.

    Raises:
        UserError: it differs.
    """
    if None not in (entry.sha256, sha256) and entry.sha256 != sha256:
        raise FileError(
            f"{entry.file} is not the file that this version of stunet knows as model {entry.name!r} (its SHA-256 is "
            f"{sha256}, not {entry.sha256}). It was refused."
        )
