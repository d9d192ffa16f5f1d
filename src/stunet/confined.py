"""Read a foreign pickle in a process of its own that can do nothing else.

The process gets the open file as its standard input, and answers in JSON. Before it reads, it limits its memory and its
time to `MOST_BYTES` and `MOST_SECONDS`, and gives up writing to files, opening files and connections, and starting
processes. Windows has no such limits: there, only the whole time and the length of the answer are limited.
"""

import codecs
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Timer
from typing import Any, BinaryIO

from stunet.errors import FileError, UnsafeFileError, UserError
from stunet.files import existing_file

MOST_BYTES = 10**9
"""Memory of the process; Python and numpy need a tenth of it."""

MOST_SECONDS = 8
"""Time on a processor."""

MOST_SECONDS_IN_ALL = 60
"""Time on a clock, on a busy machine."""

MOST_ANSWER_BYTES = 128 * 2**20

STANDARD_STREAMS = 3

CODECS = ("ascii", "latin-1", "raw-unicode-escape", "cp437")
"""What pickles and zip archives encode text with. Python imports them on first use, when the process cannot."""

DEEPEST = 200
"""Containers inside containers; plans have ten."""

Reader = Callable[[BinaryIO, Path], Any]
"""Reads an open file, whose path is for messages. It may raise anything if the file is damaged."""

_START = "import sys; sys.path[:0] = sys.argv[4:]; from stunet.confined import answer; answer(*sys.argv[1:4])"


def read_confined(reader: Reader, path: str | Path) -> Any:
    """Read a file in a process of its own.

    Args:
        reader: a function of a module, which the process imports. It gives numbers, text, and containers of them.
        path: the file.

    Returns:
        What the reader gives, as `plain` describes it.

    Raises:
        UserError: the file does not exist, the reader refuses it, or reading it takes too much memory or time.
    """
    path = existing_file(path)
    with path.open("rb") as file:
        return value_in(_answer_to(_command(reader, path), file, path), path)


def value_in(text: str | bytes, path: Path) -> Any:
    """What the reader of a file gave, from the text of `answer_of`.

    Raises:
        UserError: what the reader raised; or the text is not whole, because the process had to end.
    """
    try:
        answer = json.loads(text, object_pairs_hook=_unpacked)
        kind, value = answer
    except (ValueError, TypeError, RecursionError) as error:
        raise FileError(
            f"{path} takes more than {MOST_BYTES / 1e9:.0f} GB or {MOST_SECONDS} s to read, or crashes the process "
            "that reads it. It is damaged or malicious, and was refused."
        ) from error
    if kind:
        raise UnsafeFileError(value) if kind == UnsafeFileError.__name__ else FileError(value)
    return value


def plain(value: Any, depth: int = 0) -> Any:
    """A value as JSON can hold it: dictionaries as lists of pairs, arrays, tuples and sets as lists, others as text.

    Raises:
        ValueError: more than `DEEPEST` containers are inside each other.
    """
    if depth > DEEPEST:
        raise ValueError(f"more than {DEEPEST} containers are inside each other")
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {"pairs": [[_plain_key(key), plain(item, depth + 1)] for key, item in value.items()]}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth + 1) for item in value]
    if hasattr(value, "tolist"):  # numpy's arrays and scalars
        return plain(value.tolist(), depth + 1)
    return str(value)


def _plain_key(key: Any) -> Any:
    key = plain(key)
    return str(key) if isinstance(key, list | dict) else key


def answer(module: str, name: str, path: str) -> None:
    """What the process does: read, and write to standard output what came of it."""
    reader = getattr(importlib.import_module(module), name)
    for codec in CODECS:
        codecs.lookup(codec)
    _give_up_rights()
    sys.stdout.write(answer_of(reader, sys.stdin.buffer, Path(path)))


def answer_of(reader: Reader, file: BinaryIO, path: Path) -> str:
    """What a reader gives or raises, as JSON: the kind of the error, or "", and the value or the error's message.

    Raises:
        MemoryError: there is too little memory.
    """
    try:
        return json.dumps(["", plain(reader(file, path))])
    except UserError as error:
        return json.dumps([type(error).__name__, str(error)])
    except MemoryError:
        raise
    except Exception:  # a damaged pickle can raise anything
        return json.dumps([FileError.__name__, f"{path} is damaged or of another kind; copy or download it again."])


def _command(reader: Reader, path: Path) -> list[str]:
    """The command line of the process. It imports from where this one does, but never from the working folder."""
    places = [place for place in sys.path if place and Path(place).is_absolute()]
    return [sys.executable, "-I", "-c", _START, reader.__module__, reader.__qualname__, str(path), *places]


def _answer_to(command: list[str], file: BinaryIO, path: Path) -> bytes:
    """What the process writes; cut off if it writes too much or works too long."""
    try:
        process = subprocess.Popen(
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except OSError as error:
        raise FileError(f"{path}: no process could be started to read it ({error.strerror or error}).") from error
    with process:
        assert process.stdout is not None
        timer = Timer(MOST_SECONDS_IN_ALL, process.kill)
        timer.start()
        try:
            return process.stdout.read(MOST_ANSWER_BYTES)
        finally:
            timer.cancel()
            process.kill()


def _unpacked(pairs: list[tuple[str, Any]]) -> dict[Any, Any]:
    """The dictionary that `plain` packed."""
    ((_, items),) = pairs
    return dict(items)


def _give_up_rights() -> None:
    """Limit this process for good, as far as the system can."""
    try:
        import resource
    except ImportError:  # Windows
        return
    limits = {
        "RLIMIT_AS": MOST_BYTES,
        "RLIMIT_CPU": MOST_SECONDS,
        "RLIMIT_NOFILE": STANDARD_STREAMS,
        "RLIMIT_FSIZE": 0,
        "RLIMIT_NPROC": 0,
        "RLIMIT_CORE": 0,
    }
    for name, most in limits.items():
        with suppress(AttributeError, ValueError, OSError):  # macOS does not limit the address space
            resource.setrlimit(getattr(resource, name), (most, most))
