"""`stunet predict`: a scan, or a folder of scans, becomes label maps."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from stunet.cli.output import MESSAGES, Json, print_json, print_table, progress_bar

if TYPE_CHECKING:
    from stunet.inference.batch import Case, Outcome
    from stunet.inference.predictor import Predictor

LABEL_SUFFIXES = (".nii.gz", ".nii")

RECORD_NAME = "stunet_report.json"
"""The record that a folder of predictions gets; a single prediction's lies beside its labels."""


@dataclass
class Predict:
    """Segment a scan (.nii, .nii.gz, or a folder with one DICOM series), or a folder of .nii.gz files.

    Example: stunet predict -i scan.nii.gz -o labels.nii.gz -m base
    """

    input: Annotated[Path, tyro.conf.arg(aliases=["-i"])]
    """A scan, or a folder of scans (case_0000.nii.gz, case_0001.nii.gz are channels, as nnU-Net names them)."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])]
    """The label map to write (.nii.gz or .nii); for a folder of scans a folder."""
    model: Annotated[str, tyro.conf.arg(aliases=["-m"])] = "hippocampus"
    """A name of the catalogue, a .safetensors or .model file, or a model folder of nnU-Net v2."""
    folds: Annotated[tuple[str, ...], tyro.conf.arg(aliases=["-f"])] = ()
    """Folds of a model folder whose answers are averaged; all that are trained by default."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a CUDA GPU if there is one, else the CPU."""
    step: float = 0.5
    """Distance between windows as a fraction of the window; larger is faster and changes the answer."""
    mirror: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Average over mirrored copies: up to eight times slower, a little more accurate."""
    json: Json = False
    """Print JSON."""

    def run(self) -> int:
        """Check the paths first, then load the model once and segment."""
        from stunet.inference.batch import Case, case_name, find_cases, is_folder_of_scans

        if is_folder_of_scans(self.input):
            self._require_folder_output()
            return self._run_folder(find_cases(self.input))
        self._require_file_output()
        return self._run_single(Case(case_name(self.input), (self.input,)))

    def _predictor(self) -> "Predictor":
        from stunet.inference.model import load_model
        from stunet.inference.predictor import InferenceConfig, Predictor

        folds = [int(fold) if fold.isdigit() else fold for fold in self.folds] or None
        config = InferenceConfig(step=self.step, mirror=self.mirror, device=self.device)
        return Predictor(load_model(self.model, folds), config)

    def _require_file_output(self) -> None:
        from stunet.errors import UserError

        if not self.output.name.endswith(LABEL_SUFFIXES):
            raise UserError(f"{self.output}: a label map is written as .nii.gz or .nii; give -o a name that ends so.")
        if not self.output.parent.is_dir():
            raise UserError(f"{self.output.parent}: there is no such folder to write to. Make it first.")
        if self.output.resolve() == self.input.resolve():
            raise UserError(f"{self.output}: the labels would overwrite the scan; give -o another name.")

    def _require_folder_output(self) -> None:
        from stunet.errors import UserError

        if self.output.name.endswith(LABEL_SUFFIXES) or self.output.is_file():
            raise UserError(f"{self.output}: {self.input} is a folder of scans, so -o must be a folder, too.")
        if self.output.resolve() == self.input.resolve():
            raise UserError(f"{self.output}: the labels could overwrite the scans; give -o another folder.")

    def _run_single(self, case: "Case") -> int:
        from stunet.files import write_json
        from stunet.imaging.formats.table import read_volume
        from stunet.inference.record import run_record, scan_record

        scan = read_volume(case.files[0])
        predictor = self._predictor()
        with progress_bar(case.name) as progress:
            task = progress.task_ids[0]
            segmentation = predictor.predict(
                scan, lambda done, total: progress.update(task, completed=done, total=total)
            )
        segmentation.save(self.output)
        record = {**run_record(predictor), **scan_record(segmentation), "output": str(self.output)}
        write_json(record_path(self.output), record)
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
        outcomes: list[Outcome] = []
        with progress_bar(f"{len(cases)} scans") as progress:
            task = progress.task_ids[0]
            progress.update(task, total=len(cases))
            for outcome in predict_cases(predictor, cases, self.output):
                outcomes.append(outcome)
                progress.update(task, advance=1)
                if outcome.error is not None:
                    MESSAGES.print(f"stunet: {outcome.error}", soft_wrap=True, markup=False)
        record = {**run_record(predictor), "cases": [_outcome_record(outcome) for outcome in outcomes]}
        write_json(self.output / RECORD_NAME, record)
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        if self.json:
            print_json(record)
        else:
            MESSAGES.print(f"{len(outcomes) - len(failed)} of {len(outcomes)} scans segmented into {self.output}")
        if not failed:
            return 0
        return 1 if any(outcome.is_our_fault for outcome in failed) else 2


def record_path(labels: Path) -> Path:
    """Where the record of a single prediction lies.

    >>> record_path(Path("out/liver.nii.gz")).name
    'liver.report.json'
    """
    return labels.with_name(f"{labels.name.removesuffix('.gz').removesuffix('.nii')}.report.json")


def _outcome_record(outcome: "Outcome") -> dict[str, Any]:
    from stunet.inference.record import scan_record

    if outcome.segmentation is None:
        return {"case": outcome.case.name, "error": outcome.error}
    return {"case": outcome.case.name, "output": str(outcome.output), **scan_record(outcome.segmentation)}
