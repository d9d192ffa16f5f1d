"""`stunet predict`: segment a scan, or a folder of scans."""

import os
from collections.abc import Callable
from dataclasses import Field, asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from stunet.cli.command import BAD_INPUT, DONE, FAILED, Options
from stunet.cli.output import MESSAGES, Switch, print_json, print_table, progress_bar
from stunet.cli.segmenting import Segmenting, which_model
from stunet.errors import UserError

if TYPE_CHECKING:
    from stunet.batch.dicomweb import Local
    from stunet.batch.predict_cases import CaseResult
    from stunet.batch.request import PredictionSummary
    from stunet.batch.segmenter import Segmenter
    from stunet.imaging.formats.dicom.series import Series
    from stunet.inference.predictor import Predictor

ONLY_HERE = (
    *("folds", "probabilities", "resume", "strict_geometry", "suv", "device", "backend", "precision", "compile"),
    *("whole_scan", "step", "skip_air", "fast"),
)
"""Options that `--server` does not take."""

QUICKLY_READ = 50_000_000
"""Files up to this size (in bytes) are read in a few seconds."""

RETRIEVED_A_LINE = 200
"""Files from a server after which a line says how far the retrieval is."""


@dataclass(kw_only=True)
class ScansAndLabels(Options):
    """What is segmented, and where the labels go: the first options in the help."""

    input: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-i"], metavar="PATH...")]
    """A scan, a folder or zip with DICOM, a series on a DICOMweb server, a folder of scans, or several of these. If -o
    is a label map, several files are the channels of one scan. If -o is a folder, they are separate scans, and channels
    are joined by name (case_0000, case_0001)."""
    output: Annotated[str, tyro.conf.arg(aliases=["-o"], metavar="PATH")]
    """Label map to write; a folder for several scans or with --separate; or a DICOMweb server (dicomweb://HOST), which
    gets a DICOM segmentation."""


@dataclass(kw_only=True)
class Predict(Segmenting, ScansAndLabels):
    """Segment a scan, or many.

    Examples: stunet predict -i scan.nii.gz -o labels.nii.gz -m base
              stunet predict -i dicom_folder -o labels.nii.gz -m base --statistics --preview
              stunet predict -i scans/ -o labels/ -m base
              stunet predict -i dicom_folder -o labels.dcm -m base
              stunet predict -i dicomweb://HOST/studies/UID/series/UID -o dicomweb://HOST -m base
    """

    reference: Path | None = None
    """For DICOM results: the series that the scan was made from, if the scan itself is not DICOM."""
    resume: Switch = False
    """Skip scans that already have all outputs."""
    server: Annotated[str | None, tyro.conf.arg(metavar="URL")] = None
    """Segment on a server (`stunet serve`), and write the same files here. A token, if the server needs one, is read
    from the variable STUNET_TOKEN."""

    def run(self) -> int:
        """Check the paths, segment, and print the result."""
        from stunet.batch.dicomweb import at_hand
        from stunet.batch.outputs import Outputs
        from stunet.batch.threads import let_waiting_threads_sleep
        from stunet.imaging.formats.dicom_results import DicomDetails
        from stunet.imaging.formats.dicomweb.address import is_address
        from stunet.labels.codes import read_codes

        let_waiting_threads_sleep(self.backend)
        segmenter = self._segmenter()
        details = DicomDetails(read_codes(self.codes) if self.codes else {}, self.reference)
        outputs = Outputs(**self.written, dicom=details)
        if self.model is None and any(map(is_address, self.input)):
            raise UserError(which_model())
        with at_hand(self.input, self.output, outputs, self.dicom, _retrieving) as local:
            summary = self._predict(local, segmenter)
            stored = [asdict(one) for one in local.store()]
        self._show(summary, stored)
        if not summary.failed:
            return DONE
        return FAILED if summary.internal_errors else BAD_INPUT

    def _predict(self, local: "Local", segmenter: "Segmenter") -> "PredictionSummary":
        """Segment scans that are on this machine by now."""
        from stunet.batch.request import request_for

        asked = (local.inputs, local.output, local.outputs, self.resume, local.dicom)
        request = replace(request_for(*asked, lambda: segmenter.channels[0]), called=local.called)
        if self.model is None:
            raise UserError(which_model(_kind_of(request.scans[0].path)))
        scans = len(request.scans) if request.is_folder else 1
        with progress_bar(f"{scans} scans" if request.is_folder else local.inputs[0].name) as update:
            progress = _ScanProgress(update, scans)
            try:
                return request.predict(segmenter, progress.within_scan, progress.after_scan)
            except KeyboardInterrupt:
                if request.is_folder:
                    MESSAGES.print(f"{progress.done} scans are done and kept. Continue with --resume.")
                raise

    def _segmenter(self) -> "Segmenter":
        """This machine, or a server."""
        from stunet.batch.segmenter import OnThisMachine

        if self.server is None:
            return OnThisMachine(self._predictor)
        given = [f"--{field.name.replace('_', '-')}" for field in fields(self) if self._is_only_here(field)]
        if given:
            raise UserError(f"{', '.join(given)}: not possible with --server. Leave out what is for this machine.")
        from stunet.serve.client import Client
        from stunet.serve.on_server import OnServer

        client = Client(self.server, os.environ.get("STUNET_TOKEN"))
        return OnServer(client, self.model or "", self.classes, self.mirror)

    def _is_only_here(self, option: "Field[Any]") -> bool:
        """Whether an option was given that a server does not take."""
        return option.name in ONLY_HERE and getattr(self, option.name) != option.default

    def _predictor(self) -> "Predictor":
        """Load the model, and print what runs it."""
        from stunet.allocator import forget_read_files, keep_freed_memory
        from stunet.inference.predictor import InferenceConfig, Predictor
        from stunet.weights.model import load_model

        if self.model is None:
            raise UserError(which_model())
        folds = [int(fold) if fold.isdigit() else fold for fold in self.folds] or None
        predictor = Predictor(load_model(self.model, folds), InferenceConfig(**self.inference))
        backend = predictor.backend
        if backend.allocates_by_torch:
            keep_freed_memory()
        else:  # the runtime keeps freed memory and weights of its own
            forget_read_files()
        how = f"{backend.name}, compiled" if self.compile == "on" else backend.name
        precision = (
            f"{backend.precision} if the first scan allows it" if predictor.precision_is_open else backend.precision
        )
        chosen = f"stunet: {self.model} by {how}, {precision}, on {backend.device}"
        MESSAGES.print(chosen, soft_wrap=True)
        return predictor

    def _show(self, summary: "PredictionSummary", stored: list[dict[str, str]]) -> None:
        report = {**summary.report, "stored": stored} if stored else summary.report
        if self.json:
            print_json(report)
        elif "cases" in report:
            done = sum("error" not in case for case in report["cases"])
            earlier = f", {done - summary.made} of them before" if done > summary.made else ""
            said = f"{done} of {len(report['cases'])} scans segmented into {self.output}{earlier}."
            MESSAGES.print(said, soft_wrap=True)
        else:
            found = [(name, f"{mm3:,.0f}") for name, mm3 in report["volumes_mm3"].items() if mm3 > 0]
            print_table(f"{self.output} ({report['seconds']['total']:.1f} s)", ("structure", "mm³"), found)


def _retrieving(done: int, total: int) -> None:
    """Say now and then how far the retrieval is."""
    if done == total or done % RETRIEVED_A_LINE == 0:
        MESSAGES.print(f"{done} of {total} files retrieved")


def _kind_of(scan: "Path | Series | None") -> str | None:
    """A sentence on what a small file looks like, or that it is damaged."""
    from stunet.imaging.formats.registry import read_volume
    from stunet.inference.plausibility import apparent_kind

    if not isinstance(scan, Path) or scan.stat().st_size > QUICKLY_READ:
        return None
    return apparent_kind(read_volume(scan))


class _ScanProgress:
    """Progress in scans, including the part done of the current one. Without a terminal, one line per scan."""

    def __init__(self, update: Callable[..., None], scans: int):
        self._update, self._total, self.done = update, scans, 0
        update(0, scans)

    def within_scan(self, done: int, total: int) -> None:
        """Report that some windows of the current scan are done."""
        self._update(min(self.done + done / total, self._total), self._total)

    def after_scan(self, result: "CaseResult", total: int) -> None:
        """Report that one more scan is done, or why it failed."""
        self.done, self._total = self.done + 1, total
        self._update(self.done, self._total)
        if result.error is not None:
            MESSAGES.print(f"stunet: {result.error}", soft_wrap=True)
        elif total > 1 and not MESSAGES.is_terminal:
            took = "kept" if result.segmentation is None else f"{result.segmentation.timings.total:.1f} s"
            MESSAGES.print(f"{self.done}/{total} {result.case.name}: {took}", soft_wrap=True)
