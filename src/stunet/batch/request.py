"""A user's request to segment one scan or many: checked first, then segmented and recorded."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.batch.dicom_scans import Channel, DicomChoice
from stunet.batch.find_scans import Case, ScanFile, is_folder_of_scans, join_channels, scan_name
from stunet.batch.formats import is_result
from stunet.batch.label_record import hashed_outputs
from stunet.batch.named_scans import dicom_left_out, scans_named
from stunet.batch.outputs import Outputs, beside
from stunet.batch.predict_cases import CaseResult
from stunet.batch.prediction_record import FOLDER_REPORT, RECORD_ENDING, answer_key, read_records, scan_record
from stunet.batch.segmenter import Segmenter
from stunet.errors import OutputError, UserError, listed
from stunet.files import append_json_line, made_folder, require_short_name, require_writable, write_json

if TYPE_CHECKING:
    from stunet.inference.sliding import OnWindow

logger = logging.getLogger(__name__)

CASE_RECORDS = "stunet_cases.jsonl"
"""One line per case of a folder, written when it is done and kept when the run is resumed."""


@dataclass(frozen=True)
class PredictionSummary:
    """The outcome of a request.

    Attributes:
        report: the content of the report file.
        failed: number of cases that could not be segmented in this run.
        internal_errors: how many of these failed because of a bug in stunet rather than bad input.
        made: number of cases segmented in this run; the report may include more from an earlier run.
    """

    report: dict[str, Any]
    failed: int
    internal_errors: int
    made: int


@dataclass(frozen=True)
class PredictionRequest:
    """Scans to segment, created by `request_for` from the user's arguments.

    Attributes:
        scans: the files. Those of a folder are joined to cases once the model's channels are known; otherwise they are
            the channels of one case.
        output: the label map, or the folder of masks, of one case; or the folder for many cases.
        is_folder: whether there are many cases. A failure then affects only its own case; otherwise it is raised.
        outputs: what to write.
        resume: skip cases whose outputs all exist.
        remarks: sentences about inputs that are not segmented.
        called: names that users gave to what only passes through this machine, by path; for the record.
    """

    scans: tuple[ScanFile, ...]
    output: Path
    is_folder: bool
    outputs: Outputs
    resume: bool
    remarks: tuple[str, ...] = ()
    called: Mapping[str, str] = field(default_factory=dict)

    @property
    def report(self) -> Path:
        """The path of the report."""
        return self.output / FOLDER_REPORT if self.is_folder else beside(self.output, RECORD_ENDING)

    def _destinations(self, segmenter: Segmenter) -> dict[Case, Path]:
        """Case -> path of its labels. The model determines how many files make up a case.

        Raises:
            UserError: a single label map has more or fewer files than the model has channels.
        """
        files = tuple(scan.path for scan in self.scans)
        first = self.scans[0]
        name = scan_name(first.path) if isinstance(first.path, Path) else first.name
        if len(files) == 1 and not self.is_folder:  # a single scan is read before the model is loaded
            return {Case(name, files): self.output}
        channels = segmenter.channels
        if self.is_folder:
            cases = join_channels(self.scans, len(channels))
            return {case: self.outputs.main_path(self.output, case.name) for case in cases}
        if len(files) != len(channels):
            raise UserError(
                f"{self.output} is one label map, so {listed(map(str, files))} are {len(files)} channels of one scan, "
                f"but the model takes {len(channels)} ({', '.join(channels)}). To segment each file as a scan, give "
                f"-o a folder. To segment channels, give -m a model with {len(files)} channels."
            )
        return {Case(name, files): self.output}

    def _require_short_names(self, destinations: Mapping[Case, Path]) -> None:
        require_short_name(self.report)
        for path in destinations.values():
            self.outputs.require_short_names(path)

    def predict(
        self,
        segmenter: Segmenter,
        on_window: "OnWindow | None" = None,
        on_result: Callable[[CaseResult, int], None] = lambda result, total: None,
    ) -> PredictionSummary:
        """Segment all cases and write the report. Each case is recorded as soon as it is done.

        Args:
            segmenter: what segments; see `stunet.batch.segmenter`.
            on_window: see `Predictor.predict`.
            on_result: called with each case after its files are written, and the number of cases.

        Raises:
            UserError: an output cannot be written, the folder was filled with another model or other settings, or a
                single scan cannot be segmented.
        """
        for remark in self.remarks:
            logger.warning(remark)
        destinations = self._destinations(segmenter)
        self._require_short_names(destinations)
        records = self._earlier_records(segmenter) if self.is_folder else {}
        failed = internal_errors = made = 0
        unknown = []
        for result in segmenter.results(destinations, self.outputs, self.resume, on_window, keep_going=self.is_folder):
            on_result(result, len(destinations))
            made += result.segmentation is not None
            failed += result.error is not None
            internal_errors += result.is_internal_error
            if result.is_kept and "answer" not in records.get(result.case.name, {}):
                unknown.append(result.case.name)
            records[result.case.name] = self._record(result, records.get(result.case.name), segmenter)
        report = self._report(list(records.values()), self._said_of(unknown), segmenter)
        made_folder(self.report.parent)
        write_json(self.report, report)
        return PredictionSummary(report, failed, internal_errors, made)

    def _said_of(self, unknown: Sequence[str]) -> list[str]:
        """All remarks, including one on cases that have labels but no record from an earlier run."""
        if not unknown:
            return [*self.remarks]
        sentence = (
            f"{self.output}: the labels of {listed(unknown)} were there, without a record of the model that made them. "
            "They are kept. Remove them to segment these scans again."
        )
        logger.warning(sentence)
        return [*self.remarks, sentence]

    def _earlier_records(self, segmenter: Segmenter) -> dict[str, dict[str, Any]]:
        """The records of the cases that an earlier run finished, if this run resumes it."""
        path = self.output / CASE_RECORDS
        if not self.resume:
            path.unlink(missing_ok=True)
            return {}
        records = read_records(path)
        now = answer_key(segmenter.run_record())
        for record in records.values():
            if "answer" in record and record["answer"] != now:
                raise UserError(
                    f"{self.output}: was filled with another model or other settings ({_difference(record, now)}). "
                    "Give the same to resume, or another folder."
                )
        return records

    def _record(self, result: CaseResult, earlier: dict[str, Any] | None, segmenter: Segmenter) -> dict[str, Any]:
        """The report's entry for one case. For a folder, it is written to disk at once."""
        record = _record_of(result, self.is_folder, earlier)
        record |= {key: self.called.get(record[key], record[key]) for key in ("input", "output") if key in record}
        if self.is_folder and not result.is_kept:
            made_folder(self.output)
            answer = {} if result.error is not None else {"answer": answer_key(segmenter.run_record())}
            append_json_line(self.output / CASE_RECORDS, {**record, **answer})
        return record

    def _report(
        self, records: Sequence[Mapping[str, Any]], said: Sequence[str], segmenter: Segmenter
    ) -> dict[str, Any]:
        plain = [{name: value for name, value in record.items() if name != "answer"} for record in records]
        if self.is_folder:
            return {**segmenter.run_record(), "warnings": list(said), "cases": plain}
        return {**segmenter.run_record(), **plain[0], "warnings": [*said, *plain[0]["warnings"]]}


def request_for(
    scans: Path | Sequence[Path],
    output: Path,
    outputs: Outputs,
    resume: bool = False,
    dicom: DicomChoice = DicomChoice(),  # noqa: B008 (frozen)
    channel: Channel = lambda: None,
) -> PredictionRequest:
    """Create a request for a scan, the channels of a scan, several scans, or folders of scans.

    The name of `output`, a label map or a folder, determines whether several files are the channels of one scan or
    several scans.

    Args:
        scans: files, folders or zips with DICOM, or folders of scans; one of these or several.
        output: the label map; for several scans, or for separate masks, a folder.
        outputs: what to write.
        resume: skip cases whose outputs all exist.
        dicom: which DICOM series, and how to read them.
        channel: the model's name for its first channel; used only if DICOM series have several modalities.

    Raises:
        UserError: paths or options contradict each other, or an output cannot be written.
    """
    paths = [scans] if isinstance(scans, Path) else list(scans)
    found = scans_named(paths, dicom, channel, into_folder=not _is_label_map(output))
    many = _are_many(paths, found, output, outputs)
    _require_other_place(paths, output)
    if not many:
        outputs.require_main_path(output)
        if resume:
            raise UserError("--resume is for a folder of scans. Leave it out for a single scan.")
    outputs.require_consistent(outputs.main_path(output, "case") if many else output, many)
    require_writable(output if many else output.parent)
    return PredictionRequest(tuple(found), output, many, outputs, resume, tuple(dicom_left_out(paths, dicom)))


def _are_many(paths: Sequence[Path], found: Sequence[ScanFile], output: Path, outputs: Outputs) -> bool:
    """Whether there are many cases: each file is a scan, or channels are joined by name, and `output` is a folder.

    Raises:
        UserError: a folder of several scans, but an output named like one label map.
    """
    folders = [path for path in paths if is_folder_of_scans(path)]
    if not _is_label_map(output):
        return bool(folders) or len(found) > 1 or (output.is_dir() and not outputs.separate)
    if folders and len(found) > 1:
        raise OutputError(f"{output}: {folders[0]} is a folder of {len(found)} scans, so -o must be a folder, too.")
    return False


def _is_label_map(output: Path) -> bool:
    """Whether an output is named like one label map."""
    return is_result(output) or output.is_file()


def _require_other_place(paths: Sequence[Path], output: Path) -> None:
    for path in paths:
        if output.resolve() == path.resolve():
            what = "scans; give -o another folder" if path.is_dir() else "scan; give -o another name"
            raise OutputError(f"{output}: the labels would overwrite the {what}.")


def _difference(record: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A sentence on how the results of two runs differ."""
    before = record["answer"]
    names = [name for name in now if before.get(name) != now[name]]
    return ", ".join(
        "the model" if name == "card_sha256" else f"{name} {before.get(name)}, now {now[name]}" for name in names
    )


def _record_of(result: CaseResult, is_folder: bool, earlier: dict[str, Any] | None) -> dict[str, Any]:
    """The report's entry for one case."""
    if result.error is not None:
        return {"case": result.case.name, "error": result.error}
    output = str(result.output)
    if result.segmentation is None:
        known = earlier if earlier and "error" not in earlier else {}
        return {**known, "case": result.case.name, "output": output, "resumed": True}
    assert result.output is not None  # where there is a segmentation
    record = {**scan_record(result.segmentation), "outputs": hashed_outputs(result.output)}
    if is_folder:
        return {"case": result.case.name, "output": output, **record}
    return {**record, "output": output, "files": [str(path) for path in result.files]}
