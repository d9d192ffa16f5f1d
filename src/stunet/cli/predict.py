"""`stunet predict`: a scan, or a folder of scans, becomes label maps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stunet.cli.command import BAD_INPUT, DONE, FAILED, Options
from stunet.cli.output import MESSAGES, Switch, print_json, print_table, progress_bar
from stunet.errors import UserError

if TYPE_CHECKING:
    from stunet.batch.predict_cases import CaseResult
    from stunet.batch.request import PredictionSummary
    from stunet.inference.predictor import Predictor
    from stunet.weights.catalogue import CatalogueEntry

FAST_MM = 3.0
"""The grid of `--fast`, as coarse as TotalSegmentator's."""


@dataclass
class Predict(Options):
    """Segment a scan, or many.

    Examples: stunet predict -i scan.nii.gz -o labels.nii.gz -m base
              stunet predict -i dicom_folder -o labels.nii.gz -m base --statistics --preview
              stunet predict -i scans/ -o labels/ -m base
    """

    input: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["-i"], metavar="PATH...")]
    """A scan, a folder with one DICOM series, or a folder of scans; or several of these. Several files are the channels
    of one scan where -o is a label map. Where -o is a folder they are scans; channels are joined by their names
    (case_0000, case_0001)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="PATH")]
    """Label map to write; a folder for several scans or with --separate."""
    model: Annotated[str | None, tyro.conf.arg(aliases=["-m"], metavar="MODEL")] = None
    """A trained model: a name (`stunet models` lists them), a .safetensors or .model file, or a model folder of nnU-Net
    v2."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-f"], metavar="FOLD...")] = ()
    """Folds of a model folder to average. Default: all trained folds."""
    classes: tuple[str, ...] = ()
    """Only these structures. Default: all."""
    separate: Switch = False
    """Write one mask per structure into the folder -o."""
    statistics: Switch = False
    """Write volume, intensity, centroid and bounding box of each structure (.statistics.json)."""
    preview: Switch = False
    """Write a picture (.preview.png)."""
    itksnap: Switch = False
    """Write names and colours for ITK-SNAP (.itksnap.txt)."""
    slicer: Switch = False
    """Write names and colours for 3D Slicer (.ctbl)."""
    probabilities: Switch = False
    """Write one probability map per structure into a folder (.probabilities). Large: use --classes."""
    resume: Switch = False
    """Skip scans that already have all outputs."""
    device: Annotated[str, tyro.conf.arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU if there is one, else the CPU."""
    backend: Literal["auto", "torch", "openvino", "onnx"] = "auto"
    """What runs the network. auto: the fastest that is installed."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of the network. auto: float16 on CUDA, bfloat16 with OpenVINO if the CPU has it, else float32."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network with torch. The first start takes a minute or more, later ones seconds. auto: off."""
    mirror: Switch = False
    """Average over mirrored copies: up to eight times slower, slightly more accurate."""
    step: float = 0.5
    """Distance between windows as a fraction of the window. Larger is faster and changes the labels."""
    skip_air: Switch = False
    """Process only the body and 20 mm around it (CT only). Faster, and changes labels slightly."""
    fast: Switch = False
    """Work on a grid of 3 mm if the model's is finer. Up to eight times faster, and changes the labels."""

    def run(self) -> int:
        """Check the paths, segment, and show what came out."""
        from stunet.allocator import keep_freed_memory
        from stunet.batch.outputs import Outputs
        from stunet.batch.request import request_for

        keep_freed_memory()
        outputs = Outputs(self.separate, self.statistics, self.preview, self.itksnap, self.probabilities, self.slicer)
        request = request_for(self.input, self.output, outputs, self.resume)
        if self.model is None:
            raise UserError(_which_model())
        scans = len(request.scans) if request.is_folder else 1
        with progress_bar(f"{scans} scans" if request.is_folder else self.input[0].name) as update:
            progress = _ScanProgress(update, scans)
            try:
                summary = request.predict(self._predictor, progress.within_scan, progress.after_scan)
            except KeyboardInterrupt:
                if request.is_folder:
                    MESSAGES.print(f"{progress.done} scans are done and kept. Continue with --resume.", markup=False)
                raise
        self._show(summary)
        if not summary.failed:
            return DONE
        return FAILED if summary.internal_errors else BAD_INPUT

    def _predictor(self) -> "Predictor":
        """Load the model, and say what will run it."""
        from stunet.inference.predictor import InferenceConfig, Predictor
        from stunet.weights.model import load_model

        assert self.model is not None
        folds = [int(fold) if fold.isdigit() else fold for fold in self.folds] or None
        config = InferenceConfig(
            step=self.step,
            mirror=self.mirror,
            classes=self.classes,
            skip_air=self.skip_air,
            least_spacing=FAST_MM if self.fast else None,
            device=self.device,
            backend=self.backend,
            precision=self.precision,
            compiled=self.compile == "on",
        )
        predictor = Predictor(load_model(self.model, folds), config)
        backend = predictor.backend
        how = f"{backend.name}, compiled" if self.compile == "on" else backend.name
        chosen = f"stunet: {self.model} by {how}, {backend.precision}, on {backend.device}"
        MESSAGES.print(chosen, soft_wrap=True, markup=False)
        return predictor

    def _show(self, summary: "PredictionSummary") -> None:
        report = summary.report
        if self.json:
            print_json(report)
        elif "cases" in report:
            done = len(report["cases"]) - summary.failed - summary.kept
            kept = f" {summary.kept} had their outputs already." if summary.kept else ""
            MESSAGES.print(
                f"{done} of {len(report['cases'])} scans segmented into {self.output}.{kept}",
                markup=False,
                soft_wrap=True,
            )
        else:
            found = [(name, f"{mm3:,.0f}") for name, mm3 in report["volumes_mm3"].items() if mm3 > 0]
            print_table(f"{self.output} ({report['seconds']['total']:.1f} s)", ("structure", "mm³"), found)


def _which_model() -> str:
    """What to answer when no model was named."""
    from stunet.weights.catalogue import CATALOGUE

    rows = [f"  -m {entry.name:<12} {entry.task}, {_origin(entry)}" for entry in CATALOGUE.values()]
    return "\n".join(
        [
            "Which model? Add -m with one of these, a model file, or a model folder. For CT, start with -m base.",
            "Larger models are more accurate and slower.",
            *rows,
        ]
    )


def _origin(entry: "CatalogueEntry") -> str:
    """Where a model comes from, and how large the download is."""
    if entry.repository is None:
        return "comes with stunet"
    return f"{entry.approximate_bytes / 1e6:,.0f} MB to download"


class _ScanProgress:
    """Scans that are done, and the part of the present one; a line for each scan where there is no terminal."""

    def __init__(self, update: Callable[..., None], scans: int):
        self._update, self._total, self.done = update, scans, 0
        update(0, scans)

    def within_scan(self, done: int, total: int) -> None:
        """Some windows of the present scan are done."""
        self._update(min(self.done + done / total, self._total), self._total)

    def after_scan(self, result: "CaseResult", total: int) -> None:
        """One more scan is done, or failed; say why."""
        self.done, self._total = self.done + 1, total
        self._update(self.done, self._total)
        if result.error is not None:
            MESSAGES.print(f"stunet: {result.error}", soft_wrap=True, markup=False)
        elif total > 1 and not MESSAGES.is_terminal:
            took = "kept" if result.segmentation is None else f"{result.segmentation.timings.total:.1f} s"
            MESSAGES.print(f"{self.done}/{total} {result.case.name}: {took}", soft_wrap=True, markup=False)
