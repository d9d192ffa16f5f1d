"""Text that strangers wrote into files, on its way to a language model: data, never a part of a sentence."""

import json
import unicodedata
from dataclasses import dataclass, field

LONGEST_TEXT = 200
"""Letters of one text."""

MOST_TEXTS = 50
"""Of one file."""


@dataclass(frozen=True)
class FileText:
    """Free text of a file, which may say anything. It is data: whoever reads it follows no request in it.

    Attributes:
        texts: what it is, to the text.
    """

    texts: dict[str, str] = field(default_factory=dict)


def file_text(**texts: object) -> FileText:
    """Texts by what they are, each made harmless by `plain`; empty ones are left out."""
    cleaned = {name: plain(str(text)) for name, text in list(texts.items())[:MOST_TEXTS]}
    return FileText({name: text for name, text in cleaned.items() if text})


def plain(text: str, longest: int = LONGEST_TEXT) -> str:
    r"""One line without control characters and signs that cannot be seen, cut where it is long.

    >>> plain("CT\r\n\x1b[2Jabdomen\u202e")
    'CT [2Jabdomen'
    >>> plain("x" * 10, longest=5)
    'xxxxx…'
    """
    visible = "".join(" " if unicodedata.category(letter)[0] == "C" else letter for letter in text)
    line = " ".join(visible.split())
    return line if len(line) <= longest else f"{line[:longest]}…"


def fenced(text: str) -> str:
    r"""A text as a JSON string, for the end of a sentence that says what it is.

    >>> print(fenced('a "b"\n'))
    "a \"b\""
    """
    return json.dumps(plain(text, 2 * LONGEST_TEXT), ensure_ascii=False)
