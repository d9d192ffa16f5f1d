"""What a user asks for, a scan or many: checked before any work, then segmented and recorded."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.batch.find_scans import (
    Case,
    ScanFile,
    is_folder_of_scans,
    join_channels,
    require_scans,
    scan_files,
    scan_name,
)
from stunet.batch.outputs import Outputs, beside
from stunet.batch.predict_cases import CaseResult, predict_cases
from stunet.batch.prediction_record import answer_key, append_record, read_records, run_record, scan_record
from stunet.errors import FileError, OutputError, UserError
from stunet.files import made_folder, require_short_name, require_writable, write_json
from stunet.imaging.formats.registry import WRITERS, has_suffix, without_suffix

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.inference.sliding import OnWindow

FOLDER_REPORT = "stunet_report.json"
"""The report that a folder of predictions gets; a single prediction's lies beside its labels."""

CASE_RECORDS = "stunet_cases.jsonl"
"""One line for each case of a folder, written when it is done and kept when the run is resumed."""


@dataclass(frozen=True)
class PredictionSummary:
    """How a request ended.

    Attributes:
        report: what the report file holds.
        failed: cases that could not be segmented.
        internal_errors: how many of these failed by an error of stunet's own and not of the input.
        kept: cases whose outputs were there already.
    """

    report: dict[str, Any]
    failed: int
    internal_errors: int
    kept: int = 0


@dataclass(frozen=True)
class PredictionRequest:
    """Scans to segment; `request_for` makes one from what a user names.

    Attributes:
        scans: files by name. Those of a folder are joined to cases once the model's channels are known; otherwise they
            are the channels of one case.
        output: the label map, or the folder of masks, of one case; or the folder for those of many.
        is_folder: whether there are many cases, and a failure costs only its own case. A single scan's is raised.
        outputs: what to write.
        resume: skip cases of which all outputs are there.
    """

    scans: tuple[ScanFile, ...]
    output: Path
    is_folder: bool
    outputs: Outputs
    resume: bool

    @property
    def report(self) -> Path:
        """Where the report goes."""
        return self.output / FOLDER_REPORT if self.is_folder else beside(self.output, "report.json")

    def destinations(self, channels: int) -> dict[Case, Path]:
        """Each case and the path of its labels, for a model with so many channels."""
        if not self.is_folder:
            return {Case(self.scans[0].name, tuple(scan.path for scan in self.scans)): self.output}
        cases = join_channels(self.scans, channels)
        return {case: self.outputs.main_path(self.output, case.name) for case in cases}

    def predict(
        self,
        load_predictor: "Callable[[], Predictor]",
        on_window: "OnWindow | None" = None,
        on_result: Callable[[CaseResult, int], None] = lambda result, total: None,
    ) -> PredictionSummary:
        """Segment all cases and write the report. What is done is recorded at once, case by case.

        Args:
            load_predictor: called once; of a single scan, when it has been read.
            on_window: see `Predictor.predict`.
            on_result: told of each case once its files are written, and how many cases there are.

        Raises:
            UserError: what `load_predictor` raises, an output that cannot be written, a folder that another model or
                other settings filled, or a single scan that cannot be segmented.
        """
        load = cache(load_predictor)
        destinations = self.destinations(len(load().model.card.channels) if self.is_folder else 0)
        records = self._earlier_records(load) if self.is_folder else {}
        internal_errors = kept = 0
        results = predict_cases(load, destinations, self.outputs, self.resume, on_window, keep_going=self.is_folder)
        for result in results:
            on_result(result, len(destinations))
            kept += result.is_kept
            internal_errors += result.is_internal_error
            records[result.case.name] = self._record(result, records.get(result.case.name), load)
        report = self._report(list(records.values()), load)
        made_folder(self.report.parent)
        write_json(self.report, report)
        failed = sum("error" in record for record in records.values())
        return PredictionSummary(report, failed, internal_errors, kept)

    def _earlier_records(self, load: "Callable[[], Predictor]") -> dict[str, dict[str, Any]]:
        """Of the cases that an earlier run finished, if this one goes on with it."""
        path = self.output / CASE_RECORDS
        if not self.resume:
            path.unlink(missing_ok=True)
            return {}
        records = read_records(path)
        now = answer_key(run_record(load()))
        for record in records.values():
            if "answer" in record and record["answer"] != now:
                raise UserError(
                    f"{self.output}: was filled with another model or other settings ({_difference(record, now)}). "
                    "Give the same to resume, or another folder."
                )
        return records

    def _record(
        self, result: CaseResult, earlier: dict[str, Any] | None, load: "Callable[[], Predictor]"
    ) -> dict[str, Any]:
        """What the report says of one case; of a folder's it is written down at once."""
        record = _record_of(result, self.is_folder, earlier)
        if self.is_folder and not result.is_kept:
            made_folder(self.output)
            answer = {} if result.error is not None else {"answer": answer_key(run_record(load()))}
            append_record(self.output / CASE_RECORDS, {**record, **answer})
        return record

    def _report(self, records: Sequence[Mapping[str, Any]], load: "Callable[[], Predictor]") -> dict[str, Any]:
        plain = [{name: value for name, value in record.items() if name != "answer"} for record in records]
        return {**run_record(load()), **({"cases": plain} if self.is_folder else plain[0])}


def request_for(
    scans: Path | Sequence[Path], output: Path, outputs: Outputs, resume: bool = False
) -> PredictionRequest:
    """What is to be done with a scan, the channels of a scan, several scans, or folders of scans.

    Whether `output` is called as a label map or as a folder says whether several files are the channels of one scan or
    several scans.

    Args:
        scans: files, folders with one DICOM series, or folders of scans; one of these or several.
        output: the label map; for several scans, or for separate masks, a folder.
        outputs: what to write.
        resume: skip cases of which all outputs are there.

    Raises:
        UserError: paths or options that do not suit each other, or an output that cannot be written.
    """
    paths = [scans] if isinstance(scans, Path) else list(scans)
    found = _scans_in(paths)
    many = _are_many(paths, found, output, outputs)
    _require_other_place(paths, output)
    if not many:
        outputs.require_main_path(output)
        if resume:
            raise UserError("--resume is for a folder of scans. Leave it out for a single scan.")
    require_writable(output if many else output.parent)
    request = PredictionRequest(tuple(found), output, many, outputs, resume)
    require_short_name(request.report)
    return request


def _are_many(paths: Sequence[Path], found: Sequence[ScanFile], output: Path, outputs: Outputs) -> bool:
    """Whether each file is a scan, or scans' channels are joined by name, and `output` is a folder for all.

    Raises:
        UserError: a folder of several scans, and an output that is called as one label map.
    """
    folders = [path for path in paths if is_folder_of_scans(path)]
    if not (has_suffix(output, WRITERS) or output.is_file()):
        return bool(folders) or len(found) > 1 or (output.is_dir() and not outputs.separate)
    if folders and len(found) > 1:
        raise OutputError(f"{output}: {folders[0]} is a folder of {len(found)} scans, so -o must be a folder, too.")
    return False


def _scans_in(paths: Sequence[Path]) -> list[ScanFile]:
    """The scans that are named, and those in the folders that are named."""
    found: list[ScanFile] = []
    for path in paths:
        if not path.exists():
            raise FileError(f"{path}: no such file or folder.")
        if path.is_dir():
            require_scans(path)
        inside = scan_files(path) if path.is_dir() else []
        found += inside if len(inside) > 1 or not inside else [ScanFile(scan_name(inside[0].path), inside[0].path)]
        if not inside:
            found.append(ScanFile(without_suffix(path) if len(paths) > 1 else scan_name(path), path))
    return found


def _require_other_place(paths: Sequence[Path], output: Path) -> None:
    for path in paths:
        if output.resolve() == path.resolve():
            what = "scans; give -o another folder" if path.is_dir() else "scan; give -o another name"
            raise OutputError(f"{output}: the labels would overwrite the {what}.")


def _difference(record: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What of two runs' answers differs, in words."""
    before = record["answer"]
    names = [name for name in now if before.get(name) != now[name]]
    return ", ".join(
        "the model" if name == "card_sha256" else f"{name} {before.get(name)}, now {now[name]}" for name in names
    )


def _record_of(result: CaseResult, is_folder: bool, earlier: dict[str, Any] | None) -> dict[str, Any]:
    """What the report says of one case."""
    if result.error is not None:
        return {"case": result.case.name, "error": result.error}
    output = str(result.output)
    if result.segmentation is None:
        return {**(earlier or {}), "case": result.case.name, "output": output, "resumed": True}
    record = scan_record(result.segmentation)
    if is_folder:
        return {"case": result.case.name, "output": output, **record}
    return {**record, "output": output, "files": [str(path) for path in result.files]}
