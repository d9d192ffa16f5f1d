"""How a worker reads a scan of a batch, writes its outputs durably, and records what came out."""

import shutil
from contextlib import AbstractContextManager
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from stunet.batch.claims import Claims
from stunet.batch.copies import Copies
from stunet.batch.durable import files_below
from stunet.batch.ends import Ends, ScanEnd
from stunet.batch.find_scans import Case, OneFile
from stunet.batch.label_record import size_and_hash
from stunet.batch.ledger import Ledger
from stunet.batch.listing import ListedFile, ListedScan, files_of
from stunet.batch.outputs import Outputs, write_outputs
from stunet.batch.prediction_record import answer_key, backend_record, peak_memory_bytes, run_record, scan_record
from stunet.batch.settings import MODEL, BatchFolder, BatchSettings, model_digests
from stunet.batch.time_limit import TimeLimit
from stunet.errors import FileError, OutputError, Stopped, UserError
from stunet.files import file_sha256
from stunet.imaging.scan import as_volume
from stunet.imaging.volume import Volume

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.inference.segmentation import Segmentation


class LostScanError(UserError):
    """This worker was taken for dead while it had a scan, and the scan was given to another."""


class DestinationError(Stopped):
    """No scan can be read or written: the disk is full, the folder is gone, or a store does not answer."""


class Workbench:
    """One worker's way with a scan.

    Args:
        folder: of the batch.
        settings: of the batch.
        ledger: of the batch.
        claims: of this worker.
        ends: records what is done.
        limit: on the time for each scan.

    Attributes:
        outputs: what is written for each scan.
    """

    def __init__(
        self,
        folder: BatchFolder,
        settings: BatchSettings,
        ledger: Ledger,
        claims: Claims,
        ends: Ends,
        limit: TimeLimit,
    ):
        self._folder = folder
        self._settings = settings
        self._ledger = ledger
        self._claims = claims
        self._ends = ends
        self._limit = limit
        self._scans: dict[str, ListedScan] = {}
        self._copies: dict[str, Copies] = {}
        self._inputs: dict[str, dict[str, Any]] = {}
        self._seconds: dict[str, float] = {}
        self.outputs = settings.outputs()

    def load(self) -> "Predictor":
        """The predictor; the model is loaded at the first call.

        Raises:
            UserError: it cannot be loaded, or is another than the model of the other workers.
        """
        return self._predictor

    def destination(self, scan: ListedScan) -> tuple[Case, Path]:
        """A claimed scan as a case, and where its labels are prepared."""
        self._scans[scan.name] = scan
        shutil.rmtree(self._ledger.staging(scan.name), ignore_errors=True)
        return Case(scan.name, ()), self.outputs.main_path(self._ledger.staging(scan.name), scan.name)

    def during(self, case: Case) -> AbstractContextManager[None]:
        """Within, the network segments a case."""
        return self._limit.counting(case.name)

    def read(self, case: Case, place: Path, outputs: Outputs) -> Volume:
        """Read a scan, and note what was read.

        Raises:
            UserError: it cannot be read, or changed meanwhile.
        """
        with self._limit.counting(case.name):
            return self._read(self._scans.pop(case.name), place, outputs)

    def _read(self, scan: ListedScan, place: Path, outputs: Outputs) -> Volume:
        if scan.problem is not None:
            raise FileError(scan.problem)
        start = perf_counter()
        copies = self._copies[scan.name] = Copies(scan.name)
        with copies.named():
            copied = [self._copied(file, copies) for file in scan.files]
            found = [file.found(self._settings.dicom, self._settings.channels[0]) for file in copied]
            try:
                volume, self._inputs[scan.name] = _read_and_described(found)
            except OSError as error:
                raise FileError(f"{scan.files[0].path}: cannot be read ({error.strerror or error}).") from error
        volume = copies.renamed(volume)
        self._seconds[scan.name] = perf_counter() - start
        outputs.require_scan(place, volume)
        return volume

    @staticmethod
    def _copied(file: ListedFile, copies: Copies) -> ListedFile:
        try:
            return copies.of(file)
        except OutputError as error:  # the store fails, not the scan
            raise _ended_by(error) from error

    def write(self, segmentation: "Segmentation", place: Path, outputs: Outputs, name: str) -> list[Path]:
        """Prepare the outputs aside, put them in place durably, and only then record that the scan is done.

        Raises:
            UserError: they cannot be written, or another worker has taken the scan.
            DestinationError: no outputs can be written.
        """
        with self._limit.counting(name):
            return self._write(segmentation, place, outputs, name)

    def _write(self, segmentation: "Segmentation", place: Path, outputs: Outputs, name: str) -> list[Path]:
        start = perf_counter()
        staging = self._ledger.staging(name)
        try:
            write_outputs(segmentation, place, outputs, name)
            written = _labels_last(staging, place)
            described = {str(path): size_and_hash(staging / path) for path in written}
            self._require(self._claims.holds(name), name)
            for path in written:
                self._ledger.files.put(staging / path, self._folder.path / path)
            record = self._record(segmentation, name, perf_counter() - start)
            end = ScanEnd(name, segmentation.timings.total, None, peak_memory_bytes())
            self._require(self._ends.record(end, "done", **record, outputs=described), name)
        except (OSError, OutputError) as error:
            if isinstance(error, OSError) or isinstance(error.__cause__, OSError):
                raise _ended_by(error) from error
            raise
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return [self._folder.path / path for path in written]

    def clean(self, name: str) -> None:
        """Remove what was prepared for a scan, and what was copied from a store; the scan is finished or failed."""
        shutil.rmtree(self._ledger.staging(name), ignore_errors=True)
        if name in self._copies:
            self._copies.pop(name).remove()

    @staticmethod
    def _require(is_held: bool, name: str) -> None:
        if not is_held:
            raise LostScanError(f"{name}: this worker was taken for dead, so another one segments the scan.")

    @cached_property
    def _predictor(self) -> "Predictor":
        from stunet.inference.predictor import Predictor
        from stunet.weights.model import load_model

        model = load_model(self._settings.model, self._settings.chosen_folds)
        predictor = Predictor(model, self._settings.config)
        self._digests = {"card_sha256": model.card.sha256, "weights_sha256": model.weights_sha256}
        path = self._folder.ledger / MODEL
        described = {**run_record(predictor)["model"], **self._digests}
        if not self._ledger.create(path, described) and model_digests(self._folder) != self._digests:
            raise UserError(
                f"{self._settings.model}: is not the model that this batch began with. Put that one back, or start a "
                "batch in another folder."
            )
        return predictor

    @cached_property
    def _run(self) -> dict[str, Any]:
        """What is the same for all scans that this worker segments."""
        run = run_record(self._predictor)
        kept = {part: run[part] for part in ("versions", "machine")}
        return {**kept, "model": self._digests, "answer": answer_key(run)}

    def _record(self, segmentation: "Segmentation", name: str, writing: float) -> dict[str, Any]:
        record = scan_record(segmentation)
        stages = {**record["seconds"], "load": self._seconds.pop(name), "write": writing}
        seconds = {**stages, "total": sum(stages.values()) - stages["total"]}
        rounded = {stage: round(value, 3) for stage, value in seconds.items()}
        backend = backend_record(self._predictor)
        return {**record, **self._run, "backend": backend, "input": self._inputs.pop(name), "seconds": rounded}


def _ended_by(error: Exception) -> DestinationError:
    return DestinationError(f"{error} What is finished is kept. Run the same command to go on.")


def _read_and_described(found: list[OneFile]) -> tuple[Volume, dict[str, Any]]:
    """A scan, and which files it was read from.

    Raises:
        UserError: it cannot be read, or a file changed meanwhile.
    """
    paths = files_of(found)
    before = [_stamp(path) for path in paths]
    volume = as_volume(found if len(found) > 1 else found[0])
    read = {"bytes": sum(size for size, _ in before), "sha256": _digest_of(paths)}
    for path, stamp in zip(paths, before, strict=True):
        if _stamp(path) != stamp:
            raise FileError(f"{path}: changed while it was read. Try again with --retry when it is complete.")
    return volume, read


def _labels_last(staging: Path, place: Path) -> list[Path]:
    """The files in a folder, relative to it; the labels' at the end."""
    written = sorted(files_below(staging), key=lambda path: path == place)
    return [path.relative_to(staging) for path in written]


def _stamp(path: Path) -> tuple[int, int]:
    """What changes when a file is written to."""
    found = path.stat()
    return found.st_size, found.st_mtime_ns


def _digest_of(paths: list[Path]) -> str:
    """That of the only file; of several a digest of their digests, in order."""
    digests = [file_sha256(path) for path in paths]
    return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()
