"""The catalogue of named models, their sources and licences, and the cache of downloaded models.

Models are downloaded from the Hugging Face Hub, or from the mirror in `HF_ENDPOINT`, as in other programs that use the
Hub. They are stored in `STUNET_HOME/models` (`~/.stunet/models`), for example `base.safetensors`. A download whose
revision and SHA-256 are in the catalogue must have these. On first use, `base.json` records the SHA-256 of the download
and of the model file made from it; later files that differ are refused.
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
from stunet.files import home_folder, require_writable, write_json
from stunet.weights.published import CITATION

if TYPE_CHECKING:
    from stunet.weights.hub import Remote

SIZE_TOLERANCE = 0.05
"""Relative tolerance of a download's size, since the catalogue lists sizes with three digits."""

HASH_BLOCK_BYTES = 2**20


@dataclass(frozen=True)
class CatalogueEntry:
    """One named model.

    Attributes:
        name: the name that users type.
        size: size of the network, a key of `stunet.networks.stunet.SIZES`.
        modality: modality of the images: "CT" or "MR".
        segments: description of the segmented structures.
        licence: licence of the weights.
        repository: repository on the Hugging Face Hub; None for a model included in stunet.
        file: file in the repository, or in the package's folder `bundled`.
        approximate_bytes: size of that file.
        citation: the paper to cite.
        extent_mm: extent (Z, Y, X) of the training images; None if they show any part of the body.
        revision: the commit of the repository to download from; None for the newest.
        sha256: hash of the file, in hexadecimal digits; None if it is not known, as for the published weights.
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
    revision: str | None = None
    sha256: str | None = None

    @property
    def task(self) -> str:
        """Modality and structures in one line."""
        return f"{self.modality}, {self.segments}"

    @property
    def is_here(self) -> bool:
        """Whether the model is on this machine. If not, it is downloaded on first use."""
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
        sha256="cc9892c9f80af175b75185242775a97615947b9ee00998237ed4d9c83d49b7a4",
    ),
    "small": _published("small", 117_000_000),
    "base": _published("base", 467_000_000),
    "large": _published("large", 3_520_000_000),
    "huge": _published("huge", 11_700_000_000),
}
"""Sizes as on the Hub. Published files also contain the optimiser's momentum; our model files are half as large.

Their revisions and hashes are not known: nobody who wrote stunet could download them. So the first download is trusted
and recorded.
"""


@dataclass(frozen=True)
class StoredModel:
    """A model of the catalogue on this machine.

    Attributes:
        entry: its catalogue entry.
        path: the model file.
        bytes: size of the file.
        sha256: hash of the file, recorded on first use; None before first use or for a model included in stunet.
    """

    entry: CatalogueEntry
    path: Path
    bytes: int
    sha256: str | None


def models_folder() -> Path:
    """The folder of downloaded models: `STUNET_HOME/models`, by default `~/.stunet/models`."""
    return home_folder() / "models"


def get_model(name: str) -> Path:
    """Return a model's file; download and import it on first use.

    Interrupted downloads resume. Progress is written to stderr.

    Raises:
        UserError: the name is not in the catalogue, there is no connection or no space, the download has the wrong
            size, or the file has changed since first use.
    """
    entry = _entry(name)
    path = _path_of(entry)
    if entry.repository is None:
        return _existing(entry)
    with _locked(path):
        if not path.exists():
            require_writable(path.parent)
            _download_and_import(entry, path)
        _require_unchanged(path)
    return path


def list_models() -> tuple[CatalogueEntry, ...]:
    """List all models of the catalogue: structures, licences and sources."""
    return tuple(CATALOGUE.values())


def stored_models() -> tuple[StoredModel, ...]:
    """The models of the catalogue that are on this machine."""
    present = [(entry, _path_of(entry)) for entry in CATALOGUE.values() if _path_of(entry).is_file()]
    return tuple(_stored(entry, path) for entry, path in present)


def verify_model(name: str) -> StoredModel:
    """Read the whole model file and compare it with the recorded hash.

    Raises:
        UserError: the model is not on this machine, is damaged, or has changed since its first use.
    """
    from stunet.weights.model_file import read_card  # brings torch

    entry = _entry(name)
    path = _existing(entry)
    read_card(path)
    if entry.repository is None:
        _require_known(entry, sha256_of(path))
    else:
        with _locked(path):
            _require_hash(path, sha256_of(path))
    return _stored(entry, path)


def remove_model(name: str) -> Path:
    """Delete a downloaded model and partial downloads. The record stays, to verify a later download.

    Returns:
        The deleted file.

    Raises:
        UserError: the model is not on this machine, or is included in stunet.
    """
    entry = _entry(name)
    if entry.repository is None:
        raise UserError(f"Model {name!r} is included in stunet and cannot be removed.")
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
            f"Model {entry.name!r} should be included in stunet, but {path} is missing; reinstall stunet, "
            f"or name another model with -m."
        )
    raise UserError(f"Model {entry.name!r} is not on this machine; `stunet weights get {entry.name}` downloads it.")


def _partial_downloads(path: Path) -> list[Path]:
    return sorted(path.parent.glob(f"{path.stem}.*.download"))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock a model, so that only one process at a time downloads or removes it."""
    from huggingface_hub.utils import WeakFileLock  # takes 0.1 s to import; bundled models do not need it

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path.parent} cannot be created ({error}); choose another folder with STUNET_HOME."
        ) from error
    with WeakFileLock(path.with_suffix(".lock")):
        yield


# The record of first use


def _record_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _read_record(path: Path) -> dict[str, Any]:
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


def _require_unchanged(path: Path) -> None:
    """Compare the file with its record. It is read only if its modification time or size has changed."""
    record = _read_record(path)
    stat = path.stat()
    if (record.get("bytes"), record.get("modified_ns")) != (stat.st_size, stat.st_mtime_ns):
        _require_hash(path, sha256_of(path))


def _require_hash(path: Path, sha256: str) -> None:
    """Compare the hash with the recorded one, or record it if there is none yet."""
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
    """Download a published checkpoint, check it, and convert it to a model file."""
    from stunet.weights.hub import find  # not needed for downloaded models

    assert entry.repository is not None
    with _explained(entry):
        remote = find(entry.repository, entry.file, entry.revision)
    _require_size(entry, remote.bytes)
    _require_source(entry, path, remote.sha256)
    # The name contains the version, so that a download never resumes with bytes of another version.
    version = hashlib.sha256(remote.etag.encode()).hexdigest()[:16]
    download = path.with_name(f"{path.stem}.{version}.download")
    _download(entry, remote, download)
    sha256 = _checked_sha256(entry, remote, download, path)
    _import(entry, remote, download, sha256, path)
    write_json(_record_path(path), {"source": remote.url, "source_sha256": sha256})
    download.unlink()


def _checked_sha256(entry: CatalogueEntry, remote: "Remote", download: Path, path: Path) -> str:
    """The SHA-256 of a finished download. If size or hash are wrong, the download is deleted and refused."""
    sha256 = sha256_of(download)
    try:
        _require_size(entry, download.stat().st_size)
        if remote.sha256 not in (None, sha256):
            raise FileError(f"The download of model {entry.name!r} was damaged in transfer; run the command again.")
        _require_source(entry, path, sha256)
    except UserError:
        download.unlink()
        raise
    return sha256


def _import(entry: CatalogueEntry, remote: "Remote", download: Path, sha256: str, path: Path) -> None:
    from stunet.weights.import_model import import_model  # brings torch, which models that are here do not need
    from stunet.weights.model_file import save_model

    state_dict, card = import_model(download)
    training = {**card.training, "file": entry.file, "sha256": sha256}
    card = replace(card, name=entry.name, licence=entry.licence, training=training)
    save_model(path, state_dict, replace(card, source=remote.url, citation=entry.citation))


def _download(entry: CatalogueEntry, remote: "Remote", partial: Path) -> None:
    """Download `remote` to `partial`, resuming an earlier attempt."""
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


def _require_source(entry: CatalogueEntry, path: Path, sha256: str | None) -> None:
    """Refuse a published file that differs from the catalogue's, or from the one of first use."""
    _require_known(entry, sha256)
    recorded = _read_record(path).get("source_sha256")
    if None not in (recorded, sha256) and recorded != sha256:
        raise FileError(
            f"{entry.file} of {entry.repository} is no longer the file that was first downloaded (its SHA-256 has "
            f"changed). It was refused: delete {_record_path(path)} if you trust the new one."
        )


def _require_known(entry: CatalogueEntry, sha256: str | None) -> None:
    """Refuse a file that differs from the catalogue's."""
    if None not in (entry.sha256, sha256) and entry.sha256 != sha256:
        raise FileError(
            f"{entry.file} is not the file that this version of stunet knows as model {entry.name!r} (its SHA-256 is "
            f"{sha256}, not {entry.sha256}). It was refused."
        )


def _require_space(entry: CatalogueEntry, folder: Path, missing_bytes: int) -> None:
    needed = missing_bytes + entry.approximate_bytes // 2
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"Model {entry.name!r} needs {needed / 1e9:.1f} GB in {folder}, but only {free / 1e9:.1f} GB are free; "
            "free some space or choose another folder with STUNET_HOME."
        )
