"""The named models: where they come from, their licences, and a cache of those that were downloaded.

Downloads come from the Hugging Face Hub, or from the mirror that `HF_ENDPOINT` names, as with all programs that use
the Hub. They are kept in `STUNET_HOME/models` (`~/.stunet/models`): `base.safetensors`, and beside it `base.json` with
the SHA-256 of what was downloaded and of what was made of it, recorded on first use. A later file that differs is
refused.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.errors import FileError, OutputError, UnknownNameError, UserError
from stunet.files import home_folder, write_json
from stunet.weights.import_model import import_model
from stunet.weights.model_file import read_card, save_model
from stunet.weights.published import CITATION

if TYPE_CHECKING:
    from stunet.weights.hub import Remote

SIZE_TOLERANCE = 0.05
"""How far a download's size may be from the catalogue's, which is known to three digits only."""

HASH_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class CatalogueEntry:
    """One named model.

    Attributes:
        name: what users type.
        size: of the network, a name in `stunet.networks.stunet.SIZES`.
        modality: what images it is for: "CT" or "MR".
        segments: what it segments, for people.
        licence: of the weights.
        repository: on the Hugging Face Hub; None for a model that comes with stunet.
        file: in the repository, or in the package's folder `bundled`.
        approximate_bytes: of that file.
        citation: the paper to cite.
        extent_mm: (Z, Y, X) that the images of its training cover; None where they cover whatever a scanner takes.
    """

    name: str
    size: str
    modality: str
    segments: str
    licence: str
    repository: str | None
    file: str
    approximate_bytes: int
    citation: str = CITATION
    extent_mm: tuple[float, float, float] | None = None

    @property
    def task(self) -> str:
        """Images and structures, in a line."""
        return f"{self.modality}, {self.segments}"

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine; else it is downloaded at its first use."""
        return _path_of(self).is_file()


def _published(size: str, approximate_bytes: int) -> CatalogueEntry:
    return CatalogueEntry(
        name=size,
        size=size,
        modality="CT",
        segments="104 structures (TotalSegmentator v1)",
        licence="Apache-2.0",
        repository="ziyanhuang/STU-Net",
        file=f"{size}_ep4k.model",
        approximate_bytes=approximate_bytes,
    )


CATALOGUE: dict[str, CatalogueEntry] = {
    "hippocampus": CatalogueEntry(
        name="hippocampus",
        size="tiny",
        modality="MR",
        segments="anterior and posterior hippocampus (Medical Segmentation Decathlon, task 4)",
        licence="CC-BY-SA-4.0",
        repository=None,
        file="hippocampus.safetensors",
        approximate_bytes=29_200_000,
        extent_mm=(36.0, 50.0, 35.0),
    ),
    "small": _published("small", 117_000_000),
    "base": _published("base", 467_000_000),
    "large": _published("large", 3_520_000_000),
    "huge": _published("huge", 11_700_000_000),
}
"""Sizes as the Hub lists them. The published files hold the optimiser's momentum too; what we keep is half of them."""


@dataclass(frozen=True)
class StoredModel:
    """A model of the catalogue on this machine.

    Attributes:
        entry: its row of the catalogue.
        path: the model file.
        bytes: its size.
        sha256: of the file as recorded on first use; None for a model that comes with stunet, or before first use.
    """

    entry: CatalogueEntry
    path: Path
    bytes: int
    sha256: str | None


def models_folder() -> Path:
    """Where downloaded models are kept: `STUNET_HOME/models`, by default `~/.stunet/models`."""
    return home_folder() / "models"


def get_model(name: str) -> Path:
    """The model's file, downloaded and imported at first use.

    An interrupted download continues. Progress is written to stderr.

    Raises:
        UserError: a name that is not in the catalogue, no connection, no space, a download of a wrong size, or a file
            that is no longer the one that was recorded at first use.
    """
    entry = _entry(name)
    path = _path_of(entry)
    if entry.repository is None:
        return _existing(entry)
    with _locked(path):
        if not path.exists():
            _download_and_import(entry, path)
        _require_unchanged(path)
    return path


def list_models() -> tuple[CatalogueEntry, ...]:
    """The models that have a name: what they segment, their licences, and where they come from."""
    return tuple(CATALOGUE.values())


def stored_models() -> tuple[StoredModel, ...]:
    """The models of the catalogue that are on this machine."""
    present = [(entry, _path_of(entry)) for entry in CATALOGUE.values() if _path_of(entry).is_file()]
    return tuple(_stored(entry, path) for entry, path in present)


def verify_model(name: str) -> StoredModel:
    """Reads the whole model file and compares it with its record.

    Raises:
        UserError: the model is not on this machine, is damaged, or has changed since its first use.
    """
    entry = _entry(name)
    path = _existing(entry)
    read_card(path)
    if entry.repository is not None:
        with _locked(path):
            _require_hash(path, sha256_of(path))
    return _stored(entry, path)


def remove_model(name: str) -> Path:
    """Deletes a downloaded model, and what an interrupted download left. Its record stays, to recognise it later.

    Returns:
        The file that was removed.

    Raises:
        UserError: the model is not on this machine, or comes with stunet.
    """
    entry = _entry(name)
    if entry.repository is None:
        raise UserError(f"Model {name!r} is part of stunet itself and stays.")
    path = _path_of(entry)
    leftovers = _partial_downloads(path)
    if not leftovers:
        path = _existing(entry)
    with _locked(path):
        for file in (path, *leftovers):
            file.unlink(missing_ok=True)
    return path


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


# The cache


def _entry(name: str) -> CatalogueEntry:
    if name not in CATALOGUE:
        raise UnknownNameError.of("model", name, CATALOGUE)
    return CATALOGUE[name]


def _path_of(entry: CatalogueEntry) -> Path:
    if entry.repository is None:
        return Path(str(files(__package__) / "bundled" / entry.file))
    return models_folder() / f"{entry.name}.safetensors"


def _stored(entry: CatalogueEntry, path: Path) -> StoredModel:
    return StoredModel(entry, path, path.stat().st_size, _read_record(path).get("sha256"))


def _existing(entry: CatalogueEntry) -> Path:
    path = _path_of(entry)
    if path.is_file():
        return path
    if entry.repository is None:
        raise UserError(
            f"Model {entry.name!r} should come with stunet, but this installation lacks {path}; install stunet again, "
            f"or name another model with -m."
        )
    raise UserError(f"Model {entry.name!r} is not on this machine; `stunet weights get {entry.name}` downloads it.")


def _partial_downloads(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.*.download"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time downloads or removes a model."""
    from huggingface_hub.utils import WeakFileLock  # a tenth of a second to load, and not needed for other models

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path.parent} cannot be made ({error}); choose another folder with STUNET_HOME.") from error
    with WeakFileLock(path.with_suffix(".lock")):
        yield


# The record of first use


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_record(path: Path) -> dict[str, Any]:
    """What was recorded beside a model file; {} before first use.

    Raises:
        UserError: a record that cannot be read.
    """
    record = _record_path(path)
    if not record.exists():
        return {}
    try:
        return dict(json.loads(record.read_text(encoding="utf-8")))
    except (ValueError, TypeError, OSError) as error:
        raise FileError(f"{record} is damaged ({error}); delete it to record the model anew.") from error


def _require_unchanged(path: Path) -> None:
    """Compares the file with its record; it is read only if its time or size differ from those recorded."""
    record = _read_record(path)
    stat = path.stat()
    if (record.get("bytes"), record.get("modified_ns")) != (stat.st_size, stat.st_mtime_ns):
        _require_hash(path, sha256_of(path))


def _require_hash(path: Path, sha256: str) -> None:
    """Compares with the recorded hash, or records it where there is none yet."""
    record = _read_record(path)
    recorded = str(record.get("sha256", sha256))
    if recorded != sha256:
        raise FileError(
            f"{path} has changed since its first use (SHA-256 {sha256[:12]}..., recorded {recorded[:12]}...). It was "
            f"refused: delete it to download it again, or delete {_record_path(path).name} too if you trust it."
        )
    stat = path.stat()
    write_json(_record_path(path), {**record, "sha256": sha256, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns})


# Downloading


def _download_and_import(entry: CatalogueEntry, path: Path) -> None:
    """Downloads a published checkpoint, checks it, and makes our model file of it."""
    from stunet.weights.hub import find  # not needed by a model that is here

    assert entry.repository is not None
    with _explained(entry):
        remote = find(entry.repository, entry.file)
    _require_size(entry, remote.bytes)
    _require_source(entry, path, remote.sha256)
    # The name holds the version, so that a download is never continued with bytes of another one.
    version = hashlib.sha256(remote.etag.encode()).hexdigest()[:16]
    download = path.with_name(f"{path.stem}.{version}.download")
    _download(entry, remote, download)
    sha256 = _checked_sha256(entry, remote, download, path)
    _import(entry, remote, download, sha256, path)
    write_json(_record_path(path), {"source": remote.url, "source_sha256": sha256})
    download.unlink()


def _checked_sha256(entry: CatalogueEntry, remote: "Remote", download: Path, path: Path) -> str:
    """The SHA-256 of a finished download; one that is not what was promised is deleted and refused."""
    sha256 = sha256_of(download)
    try:
        _require_size(entry, download.stat().st_size)
        if remote.sha256 not in (None, sha256):
            raise FileError(f"The download of model {entry.name!r} was damaged on its way; run the command again.")
        _require_source(entry, path, sha256)
    except UserError:
        download.unlink()
        raise
    return sha256


def _import(entry: CatalogueEntry, remote: "Remote", download: Path, sha256: str, path: Path) -> None:
    state_dict, card = import_model(download)
    training = {**card.training, "file": entry.file, "sha256": sha256}
    card = replace(card, name=entry.name, licence=entry.licence, training=training)
    save_model(path, state_dict, replace(card, source=remote.url, citation=entry.citation))


def _download(entry: CatalogueEntry, remote: "Remote", partial: Path) -> None:
    """Fetches `remote` into `partial`, from the byte on where an earlier attempt stopped."""
    from stunet.weights.hub import fetch

    for other in _partial_downloads(partial.with_name(f"{entry.name}.safetensors")):
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
    """Turns whatever a failed request raises into one sentence."""
    try:
        yield
    except Exception as error:  # the Hub's library has changed its HTTP client, and so its exceptions, twice
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise UserError(
            f"Model {entry.name!r} could not be downloaded: {reason}. Run the command again to go on where it stopped. "
            f"If this machine cannot reach the Hub, set HF_ENDPOINT to a mirror, or copy {entry.file} here and use "
            "`stunet weights import`."
        ) from error


def _require_size(entry: CatalogueEntry, found: int | None) -> None:
    if found is not None and abs(found - entry.approximate_bytes) > SIZE_TOLERANCE * entry.approximate_bytes:
        raise FileError(
            f"{entry.file} of {entry.repository} has {found:,} bytes where about {entry.approximate_bytes:,} belong; "
            "it was refused."
        )


def _require_source(entry: CatalogueEntry, path: Path, sha256: str | None) -> None:
    """Refuses a published file that is no longer the one of first use."""
    recorded = _read_record(path).get("source_sha256")
    if None not in (recorded, sha256) and recorded != sha256:
        raise FileError(
            f"{entry.file} of {entry.repository} is no longer the file that was downloaded first (its SHA-256 has "
            f"changed). It was refused: delete {_record_path(path)} if you trust the new one."
        )


def _require_space(entry: CatalogueEntry, folder: Path, missing_bytes: int) -> None:
    needed = missing_bytes + entry.approximate_bytes // 2
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"Model {entry.name!r} needs {needed / 1e9:.1f} GB in {folder}, where {free / 1e9:.1f} GB are free; make "
            "room or choose another folder with STUNET_HOME."
        )
