"""One job in the worker's process: read, load, segment, write, and report progress."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING

from stunet.errors import NotEnoughMemoryError, Stopped, UserError
from stunet.files import replacing_files_in
from stunet.memory import explaining_full_main_memory, lacks_memory
from stunet.serve.job_table import Progress
from stunet.serve.loaded_models import LoadedModels
from stunet.serve.reading import read_scan
from stunet.serve.saved_result import save_result
from stunet.serve.wording import without_paths

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor

Tell = Callable[[Progress], None]

READ, LOADED, PREPARED, SEEN, LABELLED = 0.05, 0.10, 0.15, 0.90, 0.93
"""Progress of a job after reading the scan, after loading the model, before the first window, after the last window,
and after labelling."""

NO_MEMORY_TO_START = (
    "Not enough memory to start the process that runs networks. It needs about 1 GB and the size of the model. End "
    "other programs and start the server again."
)

AFTER_WINDOWS = 0.1
"""Estimated time for labelling and writing, as a fraction of the time for the windows; for `seconds_left`."""

LOADED_MODELS = LoadedModels()
"""Of this process."""


@dataclass(frozen=True)
class JobOrder:
    """What the worker needs to know about a job.

    Attributes:
        scan: folder of the upload.
        series: number of a DICOM series; None for the only or plainly best.
        model: a name of the catalogue, a model file or a model folder.
        classes: the only structures that are labelled; empty for all.
        mirror: average over mirrored copies.
        device: where the network runs.
        backend: library that runs it.
        precision: of the network.
        output: folder of the job, which appears when it is done.
    """

    scan: Path
    series: int | None
    model: str
    classes: tuple[str, ...]
    mirror: bool
    device: str
    backend: str
    precision: str
    output: Path


@dataclass(frozen=True)
class JobResult:
    """What the server needs to know about a finished job.

    Attributes:
        warnings: sentences for users of the labels.
    """

    warnings: tuple[str, ...]


def run_job(order: JobOrder, tell: Tell, stop: Event) -> JobResult:
    """Segment a scan and write the results.

    Raises:
        UserError: it cannot be segmented; the sentence names no file of the server.
        Stopped: `stop` was set.
    """
    work = _Work(order, tell, stop)
    try:
        LOADED_MODELS.retrying(order.model, explaining_full_main_memory("This scan")(work.run))
    except UserError as error:
        raise type(error)(without_paths(without_paths(str(error), order.scan), order.output)) from None
    return JobResult(tuple(without_paths(sentence, order.scan) for sentence in work.warnings))


class _Work:
    """A job while it runs."""

    def __init__(self, order: JobOrder, tell: Tell, stop: Event):
        self._order, self._tell, self._stop = order, tell, stop
        self._first_window = 0.0
        self.warnings: tuple[str, ...] = ()

    def run(self) -> None:
        """All of it."""
        from stunet.batch.prediction_record import run_record

        self._at(Progress("reading", 0.0))
        scan = read_scan(self._order.scan, self._order.series, lambda: self._predictor().model.card.channels[0])
        self._at(Progress("loading model", READ))
        predictor = self._predictor()
        self._at(Progress("preprocessing", LOADED))
        self._first_window = monotonic()
        segmentation = predictor.predict(scan, self._on_window, stop=self._stop)
        self._at(Progress("writing", LABELLED))
        record = run_record(predictor)
        record["model"]["source"] = record["model"]["name"]  # the source may be a path
        with replacing_files_in(self._order.output) as folder:
            save_result(segmentation, folder, record)
            self._require_wanted()
        self.warnings = segmentation.warnings

    def _predictor(self) -> "Predictor":
        from stunet.inference.predictor import InferenceConfig

        order = self._order
        config = InferenceConfig(
            mirror=order.mirror,
            classes=order.classes,
            device=order.device,
            backend=order.backend,
            precision=order.precision,
        )
        return LOADED_MODELS.predictor(order.model, config)

    def _at(self, progress: Progress) -> None:
        self._require_wanted()
        self._tell(progress)

    def _require_wanted(self) -> None:
        if self._stop.is_set():
            raise Stopped("The job was cancelled.")

    def _on_window(self, done: int, total: int) -> None:
        share = done / total
        per_window = (monotonic() - self._first_window) / done if done else 0.0
        left = per_window * (total - done + AFTER_WINDOWS * total)
        progress = PREPARED + share * (SEEN - PREPARED)
        self._tell(Progress("labelling" if done == total else "windows", progress, done, total, left))


def prepare_process(device: str) -> str:
    """Load the libraries that take seconds to load. Returns the device of the networks.

    Raises:
        UserError: there is no such device, or not enough memory.
    """
    from stunet.allocator import keep_freed_memory

    try:
        from stunet.inference.backends.torch_backend import torch_device
        from stunet.inference.predictor import Predictor  # noqa: F401
    except Exception as error:  # each library has its own way to fail
        if lacks_memory(error):
            raise NotEnoughMemoryError(NO_MEMORY_TO_START) from error
        raise
    keep_freed_memory()
    return str(torch_device(device))
