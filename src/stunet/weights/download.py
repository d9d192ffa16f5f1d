"""Download a published checkpoint, check it, and convert it to a model file."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from stunet.errors import FileError, OutputError, UserError
from stunet.files import file_sha256
from stunet.weights.catalogue import CatalogueEntry
from stunet.weights.first_use import record_source, require_source
from stunet.weights.hub import Remote, fetch, find

SIZE_TOLERANCE = 0.05
"""Relative tolerance of a download's size, since the catalogue lists sizes with three digits."""


def download_and_import(entry: CatalogueEntry) -> None:
    """Download a published checkpoint, check it, and convert it to the model file `entry.path`.

    Raises:
        UserError: there is no connection or no space, or the download is not the file that it should be.
    """
    assert entry.repository is not None
    with _explained(entry):
        remote = find(entry.repository, entry.file, entry.revision)
    _require_size(entry, remote.bytes)
    require_source(entry, remote.sha256)
    # The name contains the version, so that a download never resumes with bytes of another version.
    version = hashlib.sha256(remote.etag.encode()).hexdigest()[:16]
    download = entry.path.with_name(f"{entry.name}.{version}.download")
    _download(entry, remote, download)
    sha256 = _checked_sha256(entry, remote, download)
    _import(entry, remote, download, sha256)
    record_source(entry, remote.url, sha256)
    download.unlink()


def partial_downloads(entry: CatalogueEntry) -> list[Path]:
    """What interrupted downloads of a model left."""
    return sorted(entry.path.parent.glob(f"{entry.name}.*.download"))


def _checked_sha256(entry: CatalogueEntry, remote: Remote, download: Path) -> str:
    """The SHA-256 of a finished download. If size or hash are wrong, the download is deleted and refused."""
    sha256 = file_sha256(download)
    try:
        _require_size(entry, download.stat().st_size)
        if remote.sha256 not in (None, sha256):
            raise FileError(f"The download of model {entry.name!r} was damaged in transfer; run the command again.")
        require_source(entry, sha256)
    except UserError:
        download.unlink()
        raise
    return sha256


def _import(entry: CatalogueEntry, remote: Remote, download: Path, sha256: str) -> None:
    from stunet.weights.import_model import import_model  # brings torch, which models that are here do not need
    from stunet.weights.model_file import save_model

    state_dict, card = import_model(download)
    training = {**card.training, "file": entry.file, "sha256": sha256}
    card = replace(card, name=entry.name, licence=entry.licence, training=training)
    save_model(entry.path, state_dict, replace(card, source=remote.url, citation=entry.citation))


def _download(entry: CatalogueEntry, remote: Remote, partial: Path) -> None:
    """Download `remote` to `partial`, resuming an earlier attempt."""
    for other in partial_downloads(entry):
        if other != partial:
            other.unlink()
    done = partial.stat().st_size if partial.exists() else 0
    if remote.bytes is not None and done > remote.bytes:
        partial.unlink()
        done = 0
    _require_space(entry, partial.parent, (remote.bytes or entry.approximate_bytes) - done)
    with _explained(entry):
        fetch(remote, entry.file, partial)


@contextmanager
def _explained(entry: CatalogueEntry) -> Iterator[None]:
    """Turn any error of a failed request into one sentence."""
    try:
        yield
    except Exception as error:  # huggingface_hub has changed its HTTP client, and so its exceptions, twice
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"Model {entry.name!r} could not be downloaded: {reason}. Run the command again to resume the download. "
            f"If this machine cannot reach the Hub, set HF_ENDPOINT to a mirror, or copy {entry.file} here and use "
            "`stunet weights import`."
        ) from error


def _require_size(entry: CatalogueEntry, found: int | None) -> None:
    if found is not None and abs(found - entry.approximate_bytes) > SIZE_TOLERANCE * entry.approximate_bytes:
        raise FileError(
            f"{entry.file} of {entry.repository} has {found:,} bytes instead of about {entry.approximate_bytes:,}; "
            "it was refused."
        )


def _require_space(entry: CatalogueEntry, folder: Path, missing_bytes: int) -> None:
    needed = missing_bytes + entry.approximate_bytes // 2
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"Model {entry.name!r} needs {needed / 1e9:.1f} GB in {folder}, but only {free / 1e9:.1f} GB are free; "
            "free some space or choose another folder with STUNET_HOME."
        )
