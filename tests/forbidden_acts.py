"""What a pickle could try if it ran code, as readers for `read_confined`."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from stunet.confined import MOST_BYTES
from stunet.errors import UnsafeFileError


def attempted(act: Callable[[], Any]) -> str:
    """What became of an act."""
    try:
        act()
    except OSError as error:
        return type(error).__name__
    return "done"


def open_a_file(file: BinaryIO, path: Path) -> str:
    return attempted(lambda: open(path))


def write_a_file(file: BinaryIO, path: Path) -> str:
    return attempted(lambda: path.with_name("written").write_text("x"))


def write_to_the_file(file: BinaryIO, path: Path) -> str:
    return attempted(lambda: os.write(0, b"x"))


def connect(file: BinaryIO, path: Path) -> str:
    return attempted(socket.socket)


def allocate(file: BinaryIO, path: Path) -> int:
    return len(bytearray(MOST_BYTES))


def never_end(file: BinaryIO, path: Path) -> None:
    while True:
        pass


def answer_forever(file: BinaryIO, path: Path) -> None:
    while True:
        sys.stdout.write("x" * 10**6)


def nest(file: BinaryIO, path: Path) -> list[Any]:
    nested: list[Any] = []
    for _ in range(10**5):
        nested = [nested]
    return nested


def refuse(file: BinaryIO, path: Path) -> None:
    raise UnsafeFileError(f"{path.name} is refused")


def fail(file: BinaryIO, path: Path) -> None:
    raise KeyError("anything")


def give_containers(file: BinaryIO, path: Path) -> Any:
    return {"text": file.read().decode(), 0: (1, 2.5), (1, 2): {None}, "nested": {"pairs": [float("inf")]}}
