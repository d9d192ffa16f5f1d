"""Give damaged files to readers, and remember where they crash."""

import os
import tempfile
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from random import randrange

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

import stunet
from tests.fuzz.corpus import entries
from tests.fuzz.damage import Files
from tests.fuzz.reading import read_or_refuse
from tests.fuzz.targets import TARGETS

SOURCE = Path(stunet.__file__).parent

EXAMPLES = 200
"""Of one run of hypothesis, before the next reader has its turn."""


@dataclass
class Trials:
    """What became of the files that a reader was given.

    Attributes:
        tried: how many they were.
        refused: how many of them were refused.
        seconds: that it took.
        crashes: the smallest files by the place in stunet where they crashed.
    """

    tried: int = 0
    refused: int = 0
    seconds: float = 0.0
    crashes: dict[str, Files] = field(default_factory=dict)


def try_all(kinds: list[str], minutes: float) -> dict[str, Trials]:
    """Give each reader its turn until the time is over."""
    _silence_libraries()
    trials = {kind: Trials() for kind in kinds}
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        for kind, result in trials.items():
            if time.monotonic() < end:
                _try(kind, result, end)
    return trials


def _try(kind: str, trials: Trials, end: float) -> None:
    """One run of hypothesis; a crash is recorded, and does not end it."""
    start = time.monotonic()
    target, sound = TARGETS[kind], entries(kind)

    @seed(randrange(2**32))
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sound).flatmap(target.damaged))
    def check(files: Files) -> None:
        if time.monotonic() > end:
            return
        trials.tried += 1
        try:
            trials.refused += read_or_refuse(target.read, files) is not None
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            _keep(trials.crashes, _place(error), files)

    check()
    trials.seconds += time.monotonic() - start


def _keep(crashes: dict[str, Files], place: str, files: Files) -> None:
    """Remember the smallest files that crash at a place."""
    known = crashes.get(place)
    if known is None or sum(map(len, files.values())) < sum(map(len, known.values())):
        crashes[place] = files


def _place(error: BaseException) -> str:
    """The kind of an error, and the last line of stunet that it came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if str(SOURCE) in frame.filename]
    last = f"{Path(frames[-1].filename).relative_to(SOURCE)}:{frames[-1].lineno}" if frames else "tests"
    return f"{type(error).__name__} at {last}"


def _silence_libraries() -> None:
    """ITK writes to the process's stderr; the readers' own messages are tested elsewhere."""
    with tempfile.TemporaryFile() as nowhere:
        os.dup2(nowhere.fileno(), 2)
