"""How far the poller is: a file that is written whole after each step, so that it may be ended at any time."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

from stunet.files import read_json_object, write_json

LAST_STUDIES = 10_000
"""So many studies that are done are remembered."""


@dataclass
class Waiting:
    """A study that is still to be segmented.

    Attributes:
        attempts: how often it failed.
        not_before: seconds since 1970 before which it is not tried again.
    """

    attempts: int = 0
    not_before: float = 0.0


@dataclass
class Progress:
    """How far the poller is. Studies and series are Orthanc's ids, which are hashes.

    Attributes:
        last_change: of Orthanc, that was looked at; None before the first.
        waiting: studies to segment.
        done: the series of images that a study had when it was segmented, or given up.
    """

    last_change: int | None = None
    waiting: dict[str, Waiting] = field(default_factory=dict)
    done: dict[str, list[str]] = field(default_factory=dict)

    def finish(self, study: str, series: list[str]) -> None:
        """A study needs nothing more, until it gets another series of images."""
        self.waiting.pop(study, None)
        self.done.pop(study, None)
        self.done[study] = series
        while len(self.done) > LAST_STUDIES:
            del self.done[next(iter(self.done))]


def read_progress(path: Path) -> Progress:
    """What was written before; a new one where nothing was.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return Progress()
    content = read_json_object(path)
    waiting = {study: Waiting(**one) for study, one in content["waiting"].items()}
    return Progress(content["last_change"], waiting, content["done"])


def write_progress(path: Path, progress: Progress) -> None:
    """Write it whole."""
    write_json(path, asdict(progress))
