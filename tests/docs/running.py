"""How a block of bash runs: stunet's commands in this process, and what needs a shell in a shell."""

import os
import subprocess
import sys

from stunet.cli.main import run
from tests.docs.blocks import Block, commands_of

SECONDS = 1800
"""After them, a shell has hung."""


def exit_codes(block: Block, text: str) -> list[int]:
    """Of the commands in `text`, which is what the test runs of a block."""
    commands = commands_of(text)
    if any(_needs_a_shell(command) for command in commands):
        return [in_shell(text)]
    return [_exit_code(command) for command in commands]


def in_shell(text: str) -> int:
    """Run it with `bash -e`, with nothing to read, and print what it prints."""
    done = subprocess.run(
        ["bash", "-e", "-c", text],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


def _needs_a_shell(command: list[str]) -> bool:
    return command[0] not in ("stunet", "python") or command[1] == "mcp"


def _exit_code(command: list[str]) -> int:
    words = [os.path.expanduser(word) if word.startswith("~/") else word for word in command]
    if words[0] == "python":
        return subprocess.run([sys.executable, *words[1:]], check=False).returncode
    try:
        return run(words[1:])
    except SystemExit as end:  # --version
        return int(end.code or 0)
