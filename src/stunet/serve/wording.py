"""Sentences for users of a server, without its folders."""

import re
from pathlib import Path


def without_paths(sentence: str, folder: Path) -> str:
    """A sentence in which a file or folder below `folder` is "the scan".

    >>> without_paths("/data/x/files/1.nii.gz: is empty; copy /data/x/files/1.nii.gz again.", Path("/data/x"))
    'The scan: is empty; copy the scan again.'
    """
    text = re.sub(re.escape(str(folder)) + r"(?:[^\n:;,]*(?=: )|[^\s:;,]*)", "the scan", sentence)
    return text[:1].upper() + text[1:]
