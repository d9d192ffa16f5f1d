"""Which published dataset is found by which function; a new one is one more line here."""

from collections.abc import Callable
from pathlib import Path

from stunet.datasets import amos22, autopet22, flare22, msd, totalsegmentator
from stunet.datasets.source import Choice, SourceDataset

SOURCES: dict[str, Callable[[Path, Choice], SourceDataset]] = {
    "totalsegmentator": totalsegmentator.find,
    "msd": msd.find,
    "amos22": amos22.find,
    "flare22": flare22.find,
    "autopet22": autopet22.find,
}
"""Name on the command line -> what lists the cases of the published folder."""
