"""The blocks of code in README and docs, in order, page by page, and what the comments before them say."""

import os
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import REPOSITORY

PAGES = sorted({REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")})

BLOCK = re.compile(
    r"(?P<comments>(?:^<!--(?:(?!-->).)*-->\n+)*)"
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```",
    re.S | re.M,
)
"""A fenced block, and the comments before it."""

COMMENT = re.compile(r"<!-- (?P<kind>[a-z ]+?)(?:: (?P<value>(?:(?!-->).)*?))? -->", re.S)

KINDS = {"not run", "the test replaces", "needs", "serves", "exit code", "this is printed"}
"""What a comment may say: why no test runs the block; what the test replaces, in pairs; a program that the block needs
and that may be missing; that its command is a server; the exit code to expect; that it shows what the block before it
prints."""

RUN_ELSEWHERE = ("make", "pip", "nnUNetv2_train", "nnUNetv2_predict_from_modelfolder", "python", "eval", "source")
"""Commands that are not stunet's, or that install."""

LONG = ("stunet train", "torchrun", "nnUNetv2", "--profile mini", "training.run import")
"""What takes more than a few seconds."""


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        page: its file.
        line: where it begins.
        language: "bash", "python", "text", ...
        text: what it holds.
        comments: what the comments before it say, by kind.
    """

    page: Path
    line: int
    language: str
    text: str
    comments: dict[str, str]

    @property
    def name(self) -> str:
        """Page and line."""
        return f"{self.page.name}:{self.line}"

    @property
    def is_run(self) -> bool:
        """Whether a test runs it."""
        return self.language in ("bash", "python") and "not run" not in self.comments

    @property
    def serves(self) -> bool:
        """Whether its command is a server for the blocks that follow."""
        return "serves" in self.comments

    @property
    def installs(self) -> bool:
        """Whether all it does is to install."""
        return self.language == "bash" and all(
            command[0] in ("pip", "source") or command[:3] == ["python", "-m", "venv"] for command in self.commands
        )

    @property
    def needs(self) -> str | None:
        """The program without which it cannot run."""
        return self.comments.get("needs")

    @property
    def exit_code(self) -> int:
        """Of its commands."""
        return int(self.comments.get("exit code", 0))

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command; a comment is none."""
        return commands_of(self.text)

    @property
    def replaced(self) -> list[tuple[str, str]]:
        """Pairs of what the page says and what the test runs instead."""
        words = shlex.split(self.comments.get("the test replaces", ""))
        return list(zip(words[::2], words[1::2], strict=True))

    @property
    def as_tested(self) -> str:
        """The text that the test runs. `$PACS` is the value of this variable, in Python, too."""
        text = self.text
        for old, new in self.replaced:
            assert old in self.text, f"{self.name} says nothing of {old!r}, which the test would replace"
            text = text.replace(old, os.path.expandvars(new))
        return text


def commands_of(text: str) -> list[list[str]]:
    """The words of each command in a piece of bash."""
    lines = text.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def blocks_of(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        comments = {found["kind"]: found["value"] or "" for found in COMMENT.finditer(match["comments"])}
        assert set(comments) <= KINDS, f"{page.name}: {comments}"
        line = text.count("\n", 0, match.start("language")) + 1
        yield Block(page, line, match["language"], match["text"], comments)


def arguments_of(command: list[str]) -> list[str] | None:
    """What stunet is told, also where torchrun starts it; None for another program."""
    if command[0] == "stunet":
        return command[1:]
    if command[0] == "torchrun":
        return command[command.index("stunet") + 1 :]
    assert command[0] in RUN_ELSEWHERE, f"{command[0]} is neither stunet nor known here"
    return None
