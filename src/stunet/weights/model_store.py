"""The models of the catalogue on this machine: fetched on first use, listed, verified and removed."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from stunet.errors import OutputError, UserError
from stunet.files import file_sha256, require_writable
from stunet.weights.catalogue import CATALOGUE, CatalogueEntry, entry_named
from stunet.weights.first_use import read_record, require_known, require_recorded, require_unchanged


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


def get_model(name: str) -> Path:
    """Return a model's file; download and import it on first use.

    Interrupted downloads resume. Progress is written to stderr.

    Raises:
        UserError: the name is not in the catalogue, there is no connection or no space, the download has the wrong
            size, or the file has changed since first use.
    """
    entry = entry_named(name)
    path = entry.path
    if entry.repository is None:
        return _existing(entry)
    with _locked(path):
        if not path.exists():
            from stunet.weights.download import download_and_import  # not needed for downloaded models

            require_writable(path.parent)
            download_and_import(entry)
        require_unchanged(path)
    return path


def stored_models() -> tuple[StoredModel, ...]:
    """The models of the catalogue that are on this machine."""
    return tuple(_stored(entry) for entry in CATALOGUE.values() if entry.is_here)


def verify_model(name: str) -> StoredModel:
    """Read the whole model file and compare it with the recorded hash.

    Raises:
        UserError: the model is not on this machine, is damaged, or has changed since its first use.
    """
    from stunet.weights.model_file import read_card  # brings torch

    entry = entry_named(name)
    path = _existing(entry)
    read_card(path)
    if entry.repository is None:
        require_known(entry, file_sha256(path))
    else:
        with _locked(path):
            require_recorded(path, file_sha256(path))
    return _stored(entry)


def remove_model(name: str) -> Path:
    """Delete a downloaded model and partial downloads. The record stays, to verify a later download.

    Returns:
        The deleted file.

    Raises:
        UserError: the model is not on this machine, or is included in stunet.
    """
    from stunet.weights.download import partial_downloads

    entry = entry_named(name)
    if entry.repository is None:
        raise UserError(f"Model {name!r} is included in stunet and cannot be removed.")
    path = entry.path
    leftovers = partial_downloads(entry)
    if not leftovers:
        path = _existing(entry)
    with _locked(path):
        for file in (path, *leftovers):
            file.unlink(missing_ok=True)
    return path


def _stored(entry: CatalogueEntry) -> StoredModel:
    return StoredModel(entry, entry.path, entry.path.stat().st_size, read_record(entry.path).get("sha256"))


def _existing(entry: CatalogueEntry) -> Path:
    path = entry.path
    if path.is_file():
        return path
    if entry.repository is None:
        raise UserError(
            f"Model {entry.name!r} should be included in stunet, but {path} is missing; reinstall stunet, "
            f"or name another model with -m."
        )
    raise UserError(f"Model {entry.name!r} is not on this machine; `stunet weights get {entry.name}` downloads it.")


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
