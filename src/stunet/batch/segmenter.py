"""What segments the cases of a request: a predictor on this machine, or whatever else can, such as a server."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from stunet.batch.find_scans import Case
from stunet.batch.outputs import Outputs
from stunet.batch.predict_cases import CaseResult, predict_cases
from stunet.batch.prediction_record import run_record

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.inference.sliding import OnWindow


class Segmenter(Protocol):
    """Segments cases with one model and one configuration."""

    @property
    def channels(self) -> Sequence[str]:
        """What the model calls the images of a scan."""
        ...

    def run_record(self) -> dict[str, Any]:
        """What holds for all scans; see `stunet.batch.prediction_record.run_record`. Asked after a case is done."""
        ...

    def results(
        self,
        destinations: Mapping[Case, Path],
        outputs: Outputs,
        resume: bool,
        on_window: "OnWindow | None",
        keep_going: bool,
    ) -> Iterator[CaseResult]:
        """Segment each case and write its files; see `stunet.batch.predict_cases.predict_cases`."""
        ...


class OnThisMachine:
    """Segments with a predictor.

    Args:
        load_predictor: called once; of a single scan, when it has been read.
    """

    def __init__(self, load_predictor: "Callable[[], Predictor]"):
        self._load = cache(load_predictor)

    @property
    def channels(self) -> Sequence[str]:
        """The model's."""
        return self._load().model.card.channels

    def run_record(self) -> dict[str, Any]:
        """Of the predictor."""
        return run_record(self._load())

    def results(
        self,
        destinations: Mapping[Case, Path],
        outputs: Outputs,
        resume: bool,
        on_window: "OnWindow | None",
        keep_going: bool,
    ) -> Iterator[CaseResult]:
        """One case after the other."""
        return predict_cases(self._load, destinations, outputs, resume, on_window, keep_going)
