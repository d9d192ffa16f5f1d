"""What a user asks for, a scan or a folder of scans: checked before any work, then segmented and reported."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.batch.find_scans import Case, case_name, find_scans, is_folder_of_scans
from stunet.batch.outputs import Outputs, beside
from stunet.batch.predict_cases import CaseResult, predict_cases
from stunet.batch.prediction_record import run_record, scan_record
from stunet.errors import OutputError, UserError
from stunet.files import made_folder, write_json
from stunet.imaging.formats.registry import SUFFIXES

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor
    from stunet.inference.sliding import OnWindow

FOLDER_REPORT = "stunet_report.json"
"""The report that a folder of predictions gets; a single prediction's lies beside its labels."""


@dataclass(frozen=True)
class PredictionSummary:
    """How a request ended.

    Attributes:
        report: what the report file holds.
        failed: cases that could not be segmented.
        internal_errors: how many of these failed by an error of stunet's own and not of the input.
    """

    report: dict[str, Any]
    failed: int
    internal_errors: int


@dataclass(frozen=True)
class PredictionRequest:
    """Cases to segment; `request_for` makes one from what a user names.

    Attributes:
        destinations: for each case the path of its labels.
        report: path of the report.
        is_folder: whether it is a folder of scans, where a failure costs only its own case. A single scan's is raised.
        outputs: what to write.
        resume: skip cases that already have labels.
    """

    destinations: Mapping[Case, Path]
    report: Path
    is_folder: bool
    outputs: Outputs
    resume: bool

    def predict(
        self,
        load_predictor: "Callable[[], Predictor]",
        on_window: "OnWindow | None" = None,
        on_result: Callable[[CaseResult], None] = lambda _: None,
    ) -> PredictionSummary:
        """Segment all cases and write the report.

        Args:
            load_predictor: called once, when the first scan has been read.
            on_window: see `Predictor.predict`.
            on_result: told of each case once its files are written.

        Raises:
            UserError: what `load_predictor` raises, a report that cannot be written, or a single scan that cannot be
                segmented.
        """
        load = cache(load_predictor)
        records, internal_errors = [], 0
        results = predict_cases(
            load, self.destinations, self.outputs, self.resume, on_window, keep_going=self.is_folder
        )
        for result in results:
            on_result(result)
            records.append(_record_of(result, self.is_folder))
            internal_errors += result.is_internal_error
        report = {**run_record(load()), **({"cases": records} if self.is_folder else records[0])}
        made_folder(self.report.parent)
        write_json(self.report, report)
        return PredictionSummary(report, sum("error" in record for record in records), internal_errors)


def request_for(scan: Path, output: Path, outputs: Outputs, resume: bool = False) -> PredictionRequest:
    """What is to be done with a scan or a folder of scans.

    Args:
        scan: a file, a folder with one DICOM series, or a folder of NIfTI files.
        output: the label map, or for a folder of scans or for separate masks a folder.
        outputs: what to write.
        resume: skip cases that already have labels.

    Raises:
        UserError: paths or options that do not suit each other.
    """
    same_place = output.resolve() == scan.resolve()
    if is_folder_of_scans(scan):
        if output.name.endswith(SUFFIXES) or output.is_file():
            raise OutputError(f"{output}: {scan} is a folder of scans, so -o must be a folder, too.")
        if same_place:
            raise OutputError(f"{output}: the labels could overwrite the scans; give -o another folder.")
        places = {case: outputs.main_path(output, case.name) for case in find_scans(scan)}
        return PredictionRequest(places, output / FOLDER_REPORT, True, outputs, resume)
    outputs.require_main_path(output)
    if resume:
        raise UserError("--resume is for a folder of scans. Leave it out for a single scan.")
    if same_place:
        raise OutputError(f"{output}: the labels would overwrite the scan; give -o another name.")
    case = Case(case_name(scan), (scan,))
    return PredictionRequest({case: output}, beside(output, "report.json"), False, outputs, resume)


def _record_of(result: CaseResult, is_folder: bool) -> dict[str, Any]:
    """What the report says of one case."""
    if result.error is not None:
        return {"case": result.case.name, "error": result.error}
    output = str(result.output)
    if result.segmentation is None:
        return {"case": result.case.name, "output": output, "resumed": True}
    record = scan_record(result.segmentation)
    if is_folder:
        return {"case": result.case.name, "output": output, **record}
    return {**record, "output": output, "files": [str(path) for path in result.files]}
