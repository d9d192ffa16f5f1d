"""The blocks of code in README and docs, in order, page by page."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = sorted({REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")})

BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>[^>]+) -->\n+)?(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```",
    re.S | re.M,
)
"""A fenced block, and the comment before it that says why no test runs it."""

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
    """

    page: Path
    line: int
    language: str
    text: str
    reason: str | None

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command; a comment is none."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        line = text.count("\n", 0, match.start("language")) + 1
        yield Block(page, line, match["language"], match["text"], match["reason"])


def arguments_of(command: list[str]) -> list[str] | None:
    """What stunet is told, also where torchrun starts it; None for another program."""
    if command[0] == "stunet":
        return command[1:]
    if command[0] == "torchrun":
        return command[command.index("stunet") + 1 :]
    assert command[0] in RUN_ELSEWHERE, f"{command[0]} is neither stunet nor known here"
    return None
