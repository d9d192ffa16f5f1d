"""Read and write files. Outputs are written under a temporary name and then renamed, so they are never incomplete."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from stunet.errors import FileError, OutputError

logger = logging.getLogger(__name__)

LONGEST_NAME = 255
"""The most bytes that common file systems allow in a file name."""

HASH_BLOCK_BYTES = 2**20

TRIAL_BYTES = 64 * 1024
"""Written to test a folder, since an empty file often fits on a full disk."""


def home_folder() -> Path:
    """The folder for stunet's own files: `STUNET_HOME`, by default `~/.stunet`."""
    return Path(os.environ.get("STUNET_HOME") or Path.home() / ".stunet").expanduser()


def cache_folder(name: str) -> Path:
    """The folder `STUNET_HOME/cache/name`, or with a warning a temporary one if it is not writable."""
    folder = home_folder() / "cache" / name
    try:
        require_writable(folder)
        return made_folder(folder)
    except OutputError as error:
        logger.warning("%s Nothing is cached, so each start takes longer. Set STUNET_HOME to another folder.", error)
        temporary = tempfile.TemporaryDirectory(prefix="stunet-cache-")
        _caches_of_this_run.append(temporary)  # removed when the process ends
        return Path(temporary.name)


_caches_of_this_run: list[tempfile.TemporaryDirectory] = []


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success, remove it on failure.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(_temporary_name(path))
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


@contextmanager
def replacing_files_in(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder; on success, move its files to `folder`.

    Other files in `folder` stay. If `folder` does not exist, the temporary folder is renamed in one step.

    Raises:
        UserError: the folder cannot be written.
    """
    temporary = folder.with_name(_temporary_name(folder))
    made_folder(temporary)
    try:
        yield temporary
        if not folder.exists():
            temporary.rename(folder)
            return
        for file in temporary.iterdir():
            file.replace(folder / file.name)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror or error}).") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _temporary_name(path: Path) -> str:
    """A hidden file name for a temporary file, short enough for file systems."""
    name = f".{path.name}.{os.getpid()}.partial"
    if len(os.fsencode(name)) <= LONGEST_NAME:
        return name
    return f".{hashlib.sha1(os.fsencode(path.name)).hexdigest()}.{os.getpid()}.partial"


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Remove a folder with all its content if the block does not end normally."""
    with ExitStack() as cleanup:
        cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
        yield
        cleanup.pop_all()


def require_writable(folder: Path) -> None:
    """Check before long work that a folder is writable, or that it can be created.

    Raises:
        UserError: the folder is not writable, or the disk is full.
    """
    for part in folder.parts:
        require_short_name(Path(part))
    place = folder.absolute()
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(TRIAL_BYTES))
            file.flush()
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written to ({error.strerror or error}). Choose another folder for the output."
        ) from error


def require_output(path: Path) -> None:
    """Check before long work that this file can be written. Its folder may not exist yet.

    Raises:
        UserError: the name is too long or belongs to a folder, its folder is not writable, or the disk is full.
    """
    require_short_name(path)
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give a file name for the output.")
    require_writable(path.parent)


def require_short_name(path: Path) -> None:
    """Refuse a file name that is too long.

    Raises:
        UserError: the name has more than `LONGEST_NAME` bytes.
    """
    length = len(os.fsencode(path.name))
    if length > LONGEST_NAME:
        raise OutputError(
            f"{path.name[:40]}...: the name of this output would have {length} bytes, but at most {LONGEST_NAME} are "
            "allowed. Choose a shorter name for the output or the scan."
        )


def made_folder(path: Path) -> Path:
    """Create the folder and its parents if they do not exist, and return it.

    Raises:
        UserError: the folder cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{path}: the folder cannot be created ({error.strerror or error}); choose another."
        ) from error
    return path


def existing_file(path: str | Path) -> Path:
    """Return `path` if it is a readable file that is not empty.

    Raises:
        UserError: `path` does not exist, is a folder, is empty, or may not be read by this user.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"There is no file {path}.")
    if not path.is_file():
        raise FileError(f"{path} is a folder, not a file.")
    if not os.access(path, os.R_OK):
        raise FileError(f"{path}: no permission to read; change the file's permissions.")
    if path.stat().st_size == 0:
        raise FileError(f"{path} is empty (0 bytes); copy or download it again.")
    return path


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as JSON.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    with replacing(path) as temporary:
        temporary.write_text(as_json(content) + "\n", encoding="utf-8")


def as_json(content: Any, indent: int | None = 2) -> str:
    """`content` as JSON. Non-ASCII letters are not escaped; see `printable`."""
    return printable(json.dumps(content, indent=indent, ensure_ascii=False))


def printable(text: str) -> str:
    r"""Make `text` valid UTF-8: other bytes, as in some file names, become escapes that JSON can read, too.

    >>> print(printable("Bj\udcf6rn, Björn"))
    Bj\udcf6rn, Björn
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def append_json_line(path: Path, content: Any) -> None:
    """Append `content` as a line of JSON. If a killed process left the last line incomplete, start a new one.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with path.open("a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - 1))
            is_cut_off = file.read(1) not in (b"", b"\n")
            file.write(b"\n" * is_cut_off + as_json(content, indent=None).encode() + b"\n")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}).") from error


def read_json_lines(path: Path) -> Iterator[Any]:
    """Yield the content of each valid line; skip incomplete lines. A missing file has no lines."""
    for line in path.read_bytes().split(b"\n") if path.is_file() else ():
        with suppress(ValueError):
            yield json.loads(line)


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that contains an object.

    Raises:
        UserError: the file cannot be read, is not JSON, or is not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} is not valid JSON ({error}).") from error
    if not isinstance(content, dict):
        raise FileError(f"{path} should hold a JSON object, not a {type(content).__name__}.")
    return content
