"""The blocks of code in README and docs, in order, page by page."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = sorted({REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")})

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?"
    r"(?P<serves><!-- serves -->\n+)?"
    r"(?:<!-- the test adds: (?P<added>[^>]+) -->\n+)?"
    r"(?:<!-- exit code: (?P<exit_code>\d+) -->\n+)?"
    r"(?P<is_output><!-- this is printed -->\n+)?"
    r"(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```",
    re.S | re.M,
)
"""A fenced block, and the comments before it: why no test runs it, whether it starts a server, what shortens a training
in the test (`train --epochs 1`: options for each command of that name), the exit code to expect, and whether it is the
output of the block before."""

RUN_ELSEWHERE = ("make", "pip", "nnUNetv2_train", "nnUNetv2_predict_from_modelfolder", "python", "eval", "source")
"""Commands that are not stunet's, or that install."""


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        page: its file.
        line: where it begins.
        language: "bash", "python", "text", ...
        text: what it holds.
        reason: why it is not run; None where it is.
        added: the name of a subcommand, and options that the test adds to it; empty for most.
        serves: its command is a server for the blocks that follow.
        exit_code: that its commands end with.
        is_output: it shows what the block before it prints.
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None
    added: tuple[str, ...] = ()
    serves: bool = False
    exit_code: int = 0
    is_output: bool = False

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command; a comment is none."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]

    def shortened(self, arguments: list[str]) -> list[str]:
        """The arguments of a command as the test runs it: `~` is the home folder, as in a shell."""
        added = self.added[1:] if self.added[:1] == tuple(arguments[:1]) else ()
        return [str(Path(word).expanduser()) if word.startswith("~/") else word for word in (*arguments, *added)]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        added = tuple(shlex.split(match["added"] or ""))
        serves, is_output = (match[name] is not None for name in ("serves", "is_output"))
        exit_code = int(match["exit_code"] or 0)
        yield Block(page, line, match["language"], match["text"], match["reason"], added, serves, exit_code, is_output)


def arguments_of(command: list[str]) -> list[str] | None:
    """What stunet is told, also where torchrun starts it; None for another program."""
    if command[0] == "stunet":
        return command[1:]
    if command[0] == "torchrun":
        return command[command.index("stunet") + 1 :]
    assert command[0] in RUN_ELSEWHERE, f"{command[0]} is neither stunet nor known here"
    return None
