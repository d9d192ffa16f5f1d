"""`stunet predict`: a scan, or a folder of scans, becomes label maps."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stunet.cli.output import MESSAGES, Json, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from rich.progress import Progress

    from stunet.inference.batch import Outcome
    from stunet.inference.cases import Case
    from stunet.inference.outputs import Outputs
    from stunet.inference.predictor import Predictor

RECORD_NAME = "stunet_report.json"
"""The record that a folder of predictions gets; a single prediction's lies beside its labels."""

FAST_MM = 3.0
"""The grid of `--fast`, as coarse as TotalSegmentator's."""

Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]


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
    probabilities: Switch = False
    """Write one map per structure, of values from 0 to 1, into a folder (.probabilities). Large: see --classes."""
    resume: Switch = False
    """Of a folder of scans, leave those alone whose labels are there already."""
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
    """Of a CT, look only at the body and 20 mm around it: faster where there is much air, CHANGES NEAR-TIES."""
    fast: Switch = False
    """Work on a grid of 3 mm, if the model's is finer: up to eight times faster, and CHANGES THE ANSWER."""
    json: Json = False
    """Print JSON."""

    def run(self) -> int:
        """Check the paths first, then load the model once and segment."""
        from stunet.allocator import keep_freed_memory
        from stunet.inference.cases import Case, case_name, find_cases, is_folder_of_scans

        keep_freed_memory()
        if is_folder_of_scans(self.input):
            self._require_folder_output()
            return self._run_folder(find_cases(self.input))
        self._require_single_output()
        return self._run_single(Case(case_name(self.input), (self.input,)))

    @property
    def _outputs(self) -> "Outputs":
        from stunet.inference.outputs import Outputs

        return Outputs(self.separate, self.statistics, self.preview, self.itksnap, self.probabilities)

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

    def _require_single_output(self) -> None:
        from stunet.errors import UserError

        self._outputs.require_main_path(self.output)
        if self.resume:
            raise UserError("--resume goes on with a folder of scans; a single scan is segmented again.")
        if self.output.resolve() == self.input.resolve():
            raise UserError(f"{self.output}: the labels would overwrite the scan; give -o another name.")

    def _require_folder_output(self) -> None:
        from stunet.errors import UserError
        from stunet.imaging.formats.table import SUFFIXES

        if self.output.name.endswith(SUFFIXES) or self.output.is_file():
            raise UserError(f"{self.output}: {self.input} is a folder of scans, so -o must be a folder, too.")
        if self.output.resolve() == self.input.resolve():
            raise UserError(f"{self.output}: the labels could overwrite the scans; give -o another folder.")

    def _run_single(self, case: "Case") -> int:
        from concurrent.futures import ThreadPoolExecutor

        from stunet.files import write_json
        from stunet.imaging.formats.table import read_volume
        from stunet.inference.outputs import beside, write_outputs

        with ThreadPoolExecutor(1, "stunet-read") as reader:
            reading = reader.submit(read_volume, case.files[0])
            from stunet.inference.record import run_record, scan_record  # torch takes a second, and so does a scan

            scan = reading.result()
        predictor = self._predictor()
        with _progress(case.name, 1) as progress:
            segmentation = predictor.predict(scan, progress.within_scan, self._outputs.probability_folder(self.output))
        written = write_outputs(segmentation, self.output, self._outputs, case.name)
        record = {
            **run_record(predictor),
            **scan_record(segmentation),
            "output": str(self.output),
            "files": [str(path) for path in written],
        }
        write_json(beside(self.output, "report.json"), record)
        for warning in segmentation.warnings:
            MESSAGES.print(f"stunet: {warning}", soft_wrap=True)
        if self.json:
            print_json(record)
        else:
            found = [(name, f"{mm3:,.0f}") for name, mm3 in segmentation.volumes_mm3().items() if mm3 > 0]
            print_table(f"{self.output} ({segmentation.timings.total:.1f} s)", ("structure", "mm³"), found)
        return 0

    def _run_folder(self, cases: "list[Case]") -> int:
        from stunet.files import write_json
        from stunet.inference.batch import predict_cases
        from stunet.inference.record import run_record

        predictor = self._predictor()
        records: list[dict[str, Any]] = []
        faults = 0
        with _progress(f"{len(cases)} scans", len(cases)) as progress:
            made = predict_cases(
                predictor, cases, self.output, self._outputs, resume=self.resume, on_window=progress.within_scan
            )
            for outcome in made:
                records.append(_outcome_record(outcome))
                faults += outcome.is_our_fault
                progress.after_scan(len(records))
                if outcome.error is not None:
                    MESSAGES.print(f"stunet: {outcome.error}", soft_wrap=True, markup=False)
        record = {**run_record(predictor), "cases": records}
        write_json(self.output / RECORD_NAME, record)
        failed = sum("error" in one for one in records)
        if self.json:
            print_json(record)
        else:
            MESSAGES.print(f"{len(records) - failed} of {len(records)} scans segmented into {self.output}")
        if not failed:
            return 0
        return 1 if faults else 2


@contextmanager
def _progress(description: str, scans: int) -> Iterator["_ScanProgress"]:
    """A bar that is full when so many scans are done."""
    with progress_bar(description) as bar:
        bar.update(bar.task_ids[0], total=scans)
        yield _ScanProgress(bar)


class _ScanProgress:
    """Scans that are done, and the part of the present one."""

    def __init__(self, bar: "Progress"):
        self._bar = bar
        self._scans = 0

    def within_scan(self, done: int, total: int) -> None:
        """Some windows of the present scan are done."""
        self._bar.update(
            self._bar.task_ids[0], completed=min(self._scans + done / total, self._bar.tasks[0].total or 1)
        )

    def after_scan(self, scans: int) -> None:
        """So many scans are done."""
        self._scans = scans
        self._bar.update(self._bar.task_ids[0], completed=scans)


def _outcome_record(outcome: "Outcome") -> dict[str, Any]:
    from stunet.inference.record import scan_record

    if outcome.error is not None:
        return {"case": outcome.case.name, "error": outcome.error}
    if outcome.segmentation is None:
        return {"case": outcome.case.name, "output": str(outcome.output), "resumed": True}
    return {"case": outcome.case.name, "output": str(outcome.output), **scan_record(outcome.segmentation)}
