"""Where files go, and how: outputs appear whole or not at all, written under a temporary name and then renamed."""

import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stunet.errors import FileError, OutputError

logger = logging.getLogger(__name__)

LONGEST_NAME = 255
"""Bytes of a file name that common file systems take."""


def home_folder() -> Path:
    """Where stunet keeps what it downloads and makes: `STUNET_HOME`, by default `~/.stunet`."""
    return Path(os.environ.get("STUNET_HOME") or Path.home() / ".stunet").expanduser()


def cache_folder(name: str) -> Path:
    """The folder `STUNET_HOME/cache/name`; if it cannot be written to, one for this run alone, with a warning."""
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
    """Yields a temporary path in the same folder; renames it to `path` if all went well, and else removes it.

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
    """Yields a temporary folder; if all went well its files move to `folder`, which keeps what else it holds.

    Where `folder` was not there it appears at once and whole.

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
    """A hidden name beside `path`, no longer than file systems allow."""
    name = f".{path.name}.{os.getpid()}.partial"
    if len(os.fsencode(name)) <= LONGEST_NAME:
        return name
    return f".{hashlib.sha1(os.fsencode(path.name)).hexdigest()}.{os.getpid()}.partial"


def require_writable(folder: Path) -> None:
    """Try out, before long work, that a file can be written to a folder, or that the folder can be made.

    Raises:
        UserError: it cannot.
    """
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        raise OutputError(
            f"{folder}: cannot be written to ({error.strerror or error}). Choose another place for the output."
        ) from error


def require_short_name(path: Path) -> None:
    """Refuse a file name that no file system takes.

    Raises:
        UserError: it has more than `LONGEST_NAME` bytes.
    """
    length = len(os.fsencode(path.name))
    if length > LONGEST_NAME:
        raise OutputError(
            f"{path.name[:40]}...: the name of this output would have {length} bytes, and {LONGEST_NAME} are possible. "
            "Give the scan a shorter name."
        )


def made_folder(path: Path) -> Path:
    """The folder, made with all above it where it is missing.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: the folder cannot be made ({error.strerror or error}); choose another.") from error
    return path


def existing_file(path: str | Path) -> Path:
    """`path`, if a file with at least one byte is there, and may be read.

    Raises:
        UserError: nothing there, a folder, an empty file, or one that this user may not read.
    """
    path = Path(path)
    if not path.exists():
        raise FileError(f"There is no file {path}.")
    if not path.is_file():
        raise FileError(f"{path} is a folder, not a file.")
    if not os.access(path, os.R_OK):
        raise FileError(f"{path} may not be read by this user; change its permissions.")
    if path.stat().st_size == 0:
        raise FileError(f"{path} is empty (0 bytes); copy or download it again.")
    return path


def write_json(path: Path, content: Any) -> None:
    """Writes `content` as JSON.

    Raises:
        UserError: the folder cannot be written, or the disk is full.
    """
    with replacing(path) as temporary:
        temporary.write_text(as_json(content) + "\n", encoding="utf-8")


def as_json(content: Any, indent: int | None = 2) -> str:
    """`content` as JSON, in the letters it has; bytes of a file name that are no letters become escapes."""
    text = json.dumps(content, indent=indent, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_json_object(path: Path) -> dict[str, Any]:
    """The content of a JSON file that holds an object.

    Raises:
        UserError: it cannot be read, is not JSON, or holds something else.
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
