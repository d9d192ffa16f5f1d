"""`stunet predict`: a scan, or a folder of scans, becomes label maps."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stunet.cli.output import MESSAGES, Json, Switch, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from stunet.batch.predict_cases import CaseResult
    from stunet.batch.request import PredictionSummary
    from stunet.inference.predictor import Predictor

FAST_MM = 3.0
"""The grid of `--fast`, as coarse as TotalSegmentator's."""


@dataclass
class Predict:
    """Segment a scan (.nii, .nii.gz, or a folder with one DICOM series), or a folder of .nii.gz files.

    Example: stunet predict -i scan.nii.gz -o labels.nii.gz -m base
    """

    input: Annotated[Path, tyro.conf.arg(aliases=["-i"])]
    """A scan, or a folder of scans (case_0000.nii.gz, case_0001.nii.gz are channels, as nnU-Net names them)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The label map to write (.nii.gz or .nii); for a folder of scans, or with --separate, a folder."""
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "hippocampus"
    """A name of the catalogue, a .safetensors or .model file, or a model folder of nnU-Net v2."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-f"])] = ()
    """Folds of a model folder whose answers are averaged; all that are trained by default."""
    classes: tuple[str, ...] = ()
    """Only these structures, by name; all by default."""
    separate: Switch = False
    """Write one mask per structure into the folder -o, instead of one label map."""
    statistics: Switch = False
    """Write volume, intensities, centroid and bounding box of every structure (.statistics.json)."""
    preview: Switch = False
    """Write a picture (.preview.png)."""
    itksnap: Switch = False
    """Write names and colours for ITK-SNAP (.itksnap.txt)."""
    slicer: Switch = False
    """Write names and colours for 3D Slicer (.ctbl)."""
    probabilities: Switch = False
    """Write one map per structure, of values from 0 to 1, into a folder (.probabilities). Large: see --classes."""
    resume: Switch = False
    """Skip the scans of a folder that have labels already."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a CUDA GPU if there is one, else the CPU."""
    backend: Literal["auto", "torch", "openvino", "onnx"] = "auto"
    """What runs the network; auto takes the fastest that is installed, and says which."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Of the network; auto: float16 on CUDA, bfloat16 by OpenVINO on CPUs that have it, else float32, the exact one."""
    compile: Switch = False
    """Let torch compile the network: the first start takes a minute or more, later ones seconds (--backend torch)."""
    mirror: Switch = False
    """Average over mirrored copies: up to eight times slower, a little more accurate."""
    step: float = 0.5
    """Distance between windows as a fraction of the window; larger is faster and CHANGES THE ANSWER."""
    skip_air: Switch = False
    """Process only the body and 20 mm around it (CT only). Faster with much air in the scan; CHANGES NEAR-TIES."""
    fast: Switch = False
    """Work on a grid of 3 mm, if the model's is finer: up to eight times faster, and CHANGES THE ANSWER."""
    json: Json = False

    def run(self) -> int:
        """Check the paths, segment, and show what came out."""
        from stunet.allocator import keep_freed_memory
        from stunet.batch.outputs import Outputs
        from stunet.batch.request import request_for

        keep_freed_memory()
        outputs = Outputs(self.separate, self.statistics, self.preview, self.itksnap, self.probabilities, self.slicer)
        request = request_for(self.input, self.output, outputs, self.resume)
        scans = len(request.destinations)
        with progress_bar(f"{scans} scans" if request.is_folder else self.input.name) as update:
            progress = _ScanProgress(update, scans)
            summary = request.predict(self._predictor, progress.within_scan, progress.after_scan)
        self._show(summary)
        if not summary.failed:
            return 0
        return 1 if summary.internal_errors else 2

    def _predictor(self) -> "Predictor":
        """Load the model, and say what will run it."""
        from stunet.inference.predictor import InferenceConfig, Predictor
        from stunet.weights.model import load_model

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
            compiled=self.compile,
        )
        predictor = Predictor(load_model(self.model, folds), config)
        backend = predictor.backend
        how = f"{backend.name}, compiled" if self.compile else backend.name
        chosen = f"stunet: {self.model} by {how}, {backend.precision}, on {backend.device}"
        MESSAGES.print(chosen, soft_wrap=True, markup=False)
        return predictor

    def _show(self, summary: "PredictionSummary") -> None:
        report = summary.report
        if self.json:
            print_json(report)
        elif "cases" in report:
            scans = len(report["cases"])
            MESSAGES.print(f"{scans - summary.failed} of {scans} scans segmented into {self.output}")
        else:
            found = [(name, f"{mm3:,.0f}") for name, mm3 in report["volumes_mm3"].items() if mm3 > 0]
            print_table(f"{self.output} ({report['seconds']['total']:.1f} s)", ("structure", "mm³"), found)


class _ScanProgress:
    """Scans that are done, and the part of the present one."""

    def __init__(self, update: Callable[..., None], scans: int):
        self._update, self._total, self._done = update, scans, 0
        update(0, scans)

    def within_scan(self, done: int, total: int) -> None:
        """Some windows of the present scan are done."""
        self._update(min(self._done + done / total, self._total), self._total)

    def after_scan(self, result: "CaseResult") -> None:
        """One more scan is done, or failed; say why, and what its user should know."""
        self._done += 1
        self._update(self._done, self._total)
        for warning in result.segmentation.warnings if result.segmentation else ():
            MESSAGES.print(f"stunet: {warning}", soft_wrap=True, markup=False)
        if result.error is not None:
            MESSAGES.print(f"stunet: {result.error}", soft_wrap=True, markup=False)
