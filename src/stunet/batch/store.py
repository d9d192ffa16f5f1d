"""A store such as S3, which fsspec reaches: its paths, its objects, and the files of a batch there."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from stunet.batch.scratch import scratch
from stunet.errors import FileError, OutputError, UnknownNameError, UserError
from stunet.extras import from_extra
from stunet.files import made_folder

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,
        "config_kwargs": {
            "retries": {"mode": "standard", "max_attempts": 12},
            "connect_timeout": 20,
            "read_timeout": 60,
        },
    },
}
"""Options of fsspec by protocol. S3: other workers' files are seen at once, and a store that answers 503, or does not
answer, is asked again for two minutes or so, after longer and longer pauses (botocore)."""


def is_url(text: str) -> bool:
    """Whether a text names a store.

    >>> is_url("s3://bucket/scans"), is_url("/scans")
    (True, False)
    """
    return "://" in text


def path_in_store(url: str) -> Path:
    """The path of a URL, of universal_pathlib.

    Raises:
        UserError: a store of an unknown kind, or whose packages are not installed.
    """
    protocol = url.partition("://")[0]
    with from_extra("batch"):
        from fsspec.registry import known_implementations
        from upath import UPath

        if protocol not in known_implementations:
            raise UnknownNameError.of("kind of store", protocol, ("s3", "gs", "abfs"))
        path: Any = UPath(url.rstrip("/"), **OPTIONS.get(protocol, {}))
        assert path.fs is not None  # imports the library of this store, which may be missing
        return cast(Path, path)


def _object(path: Path) -> "tuple[AbstractFileSystem, str]":
    """The store of a path, and the key of its object."""
    in_store: Any = path
    return in_store.fs, in_store.path


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Errors of a store become sentences; what exists already is not one."""
    try:
        yield
    except (FileExistsError, UserError):
        raise
    except Exception as error:  # each store has errors of its own
        reason = str(error) or type(error).__name__
        cause = error if isinstance(error, OSError) else OSError(reason)
        raise OutputError(f"{path}: cannot be reached or written ({reason}).") from cause


def listed_in(url: str) -> list[tuple[str, str]]:
    """All objects whose keys begin with a URL, by one listing.

    Returns:
        For each its name relative to the URL (the last part, if the URL is its own) and its own URL, in order.

    Raises:
        UserError: the store cannot be read.
    """
    prefix = path_in_store(url)
    fs, key = _object(prefix)
    with _explained(prefix):
        keys = sorted(fs.find(key))
    names = {one: one[len(key) :].lstrip("/") or one.rpartition("/")[2] for one in keys}
    return [(name, fs.unstrip_protocol(one)) for one, name in names.items()]


def fetch(url: str, copy: Path) -> None:
    """Copy a scan from a store: a file, or a folder with DICOM.

    Args:
        url: of an object, or of the prefix of several.
        copy: where it goes on this machine; the folder around it is created.

    Raises:
        UserError: there is nothing, or it cannot be read.
    """
    path = path_in_store(url)
    fs, key = _object(path)
    made_folder(copy.parent)
    with _explained(path):
        if not fs.exists(key):
            raise FileError(f"{url}: no such file or folder.")
        fs.get(key, str(copy), recursive=fs.isdir(key))


class StoreFiles:
    """Implements `place.Files` for a store, where each object is put at once.

    Args:
        name: of the process that writes.
    """

    def __init__(self, name: str):
        self._name = name

    def create(self, path: Path, content: bytes) -> bool:
        """Put an object, unless there is one: on S3 with If-None-Match.

        If an answer is lost, its repetition finds the object that it made itself, so the content is compared.
        """
        fs, key = _object(path)
        with _explained(path):
            try:
                fs.pipe_file(key, content, mode="create")
            except FileExistsError:
                return bool(fs.cat_file(key) == content)
        return True

    def write(self, path: Path, content: bytes) -> None:
        """Put an object."""
        fs, key = _object(path)
        with _explained(path):
            fs.pipe_file(key, content)

    def put(self, source: Path, destination: Path) -> None:
        """Upload a file: other programs see the old object or the new one."""
        fs, key = _object(destination)
        with _explained(destination):
            fs.put_file(str(source), key)
        source.unlink()

    def read(self, path: Path) -> bytes:
        """Get an object."""
        fs, key = _object(path)
        try:
            return bytes(fs.cat_file(key))
        except OSError:
            raise
        except Exception as error:  # each store has errors of its own
            raise OSError(str(error)) from error

    def exists(self, path: Path) -> bool:
        """Whether there is an object."""
        fs, key = _object(path)
        with _explained(path):
            return bool(fs.exists(key))

    def names(self, folder: Path) -> Iterator[str]:
        """The last parts of all keys that begin with the folder, by one listing."""
        fs, key = _object(folder)
        with _explained(folder):
            found = fs.find(key)
        for one in found:
            yield one.rpartition("/")[2]

    def staging(self) -> Path:
        """A temporary folder; it is removed when the process ends."""
        return scratch() / "staging"

    def clean(self) -> None:
        """Nothing is left in a store."""

    def require_writable(self, folder: Path) -> None:
        """Put an object twice: the second time must be refused, or two workers could own one scan.

        Raises:
            UserError: the store cannot be written, or cannot create objects exclusively.
        """
        probe = folder / f"probe-{self._name}"
        try:
            self.create(probe, b"one")
            if self.create(probe, b"another"):
                raise OutputError(
                    f"{folder}: this store replaces an object that exists though it was asked not to, so two workers "
                    "could own one scan. Use one with conditional writes (see docs/batch.md), or a folder."
                )
        finally:
            fs, key = _object(probe)
            with _explained(probe):
                if fs.exists(key):
                    fs.rm_file(key)
