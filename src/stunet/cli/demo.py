"""`stunet demo`: segment a scan that comes with stunet, and compare it with the reference."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from stunet.cli.command import Options
from stunet.cli.output import MESSAGES, print_json, print_table

if TYPE_CHECKING:
    import numpy as np

    from stunet.inference.segmentation import Segmentation

MODEL = "hippocampus"

SCANS = ("hippocampus_289", "hippocampus_269", "hippocampus_222")
"""Validation cases that the model was not trained on, closest to the median size first; see `demo_scans/README.md`."""

LABELS_NAME, REPORT_NAME, PREVIEW_NAME = "labels.nii.gz", "report.json", "preview.png"

DATA_LICENCE = "CC-BY-SA-4.0, Medical Segmentation Decathlon, Task04 Hippocampus (http://medicaldecathlon.com/)"

WHAT_NEXT = """
Next, your own scan. The model that comes with stunet works only on MR scans cropped around a hippocampus:

  stunet predict -i SCAN.nii.gz -o LABELS.nii.gz -m hippocampus

For CT, 104 structures of the whole body:

  stunet weights get base
  stunet predict -i CT.nii.gz -o LABELS.nii.gz -m base

Not a medical device."""


@dataclass
class Demo(Options):
    """Segment a scan that comes with stunet.

    Example: stunet demo -o stunet_demo
    """

    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("stunet_demo")
    """Output folder for labels.nii.gz, report.json and preview.png."""
    scan: str = "1"
    """Which scan: 1, 2 or 3, or its name."""

    def run(self) -> int:
        """Segment, compare with the reference, write and show the results."""
        from stunet.batch.prediction_record import run_record, scan_record
        from stunet.evaluation.dice import dice_per_label
        from stunet.files import made_folder, require_writable, write_json
        from stunet.imaging.formats.registry import read_labels, read_volume
        from stunet.inference.predictor import Predictor
        from stunet.pictures.preview import save_preview

        name = scan_name(self.scan)
        require_writable(self.output)
        folder = made_folder(self.output)
        scan, reference = read_volume(scan_file(name)), read_labels(reference_file(name)).array[0]
        predictor = Predictor(MODEL)
        segmentation = predictor.predict(scan)
        dsc = dice_per_label(segmentation.labels, reference, [label for label in segmentation.names if label])
        segmentation.save(folder / LABELS_NAME)
        save_preview(folder / PREVIEW_NAME, scan, segmentation.labels, segmentation.names, reference, dsc, name)
        record = {
            **run_record(predictor),
            **scan_record(segmentation),
            **_demo_record(segmentation, reference, dsc, name),
            "output": [str(folder / file) for file in (LABELS_NAME, REPORT_NAME, PREVIEW_NAME)],
        }
        write_json(folder / REPORT_NAME, record)
        self._show(record)
        return 0

    def _show(self, record: dict[str, Any]) -> None:
        if self.json:
            print_json(record)
            return
        title = f"{record['scan']} ({record['seconds']['total']:.1f} s)"
        print_table(title, ("structure", "mm³", "reference mm³", "DSC"), _rows(record))
        labels, report, picture = record["output"]
        MESSAGES.print(f"\nThe picture: {picture}\nThe labels:  {labels}\nThe report:  {report}", soft_wrap=True)
        MESSAGES.print(WHAT_NEXT, soft_wrap=True)


def scan_name(choice: str) -> str:
    """The bundled scan for a number from 1, or for a name.

    Raises:
        UserError: there is no such scan.

    >>> scan_name("2")
    'hippocampus_269'
    """
    from stunet.errors import UserError

    by_number = {str(number): name for number, name in enumerate(SCANS, start=1)}
    name = by_number.get(choice, choice)
    if name not in SCANS:
        raise UserError(
            f"There is no scan {choice!r} in the demo; give --scan 1 to {len(SCANS)}, or {', '.join(SCANS)}."
        )
    return name


def scan_file(name: str) -> Path:
    """Path of a bundled scan."""
    return Path(str(files(__package__) / "demo_scans" / f"{name}.nii.gz"))


def reference_file(name: str) -> Path:
    """Path of a bundled scan's reference labels."""
    return scan_file(f"{name}_reference")


def _demo_record(
    segmentation: "Segmentation", reference: "np.ndarray", dsc: dict[int, float], name: str
) -> dict[str, Any]:
    """The prediction's record, plus the comparison with the reference."""
    from stunet.evaluation.dice import mean_ignoring_nan

    names = {label: structure for label, structure in segmentation.names.items() if label}
    return {
        "scan": name,
        "data_licence": DATA_LICENCE,
        "reference_volumes_mm3": {
            structure: float((reference == label).sum() * segmentation.voxel_mm3) for label, structure in names.items()
        },
        "dsc": {structure: dsc[label] for label, structure in names.items()},
        "mean_dsc": mean_ignoring_nan(list(dsc.values())),
    }


def _rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    volumes, references = record["volumes_mm3"], record["reference_volumes_mm3"]
    rows = [
        (name, f"{volumes[name]:,.0f}", f"{references[name]:,.0f}", f"{dsc:.4f}") for name, dsc in record["dsc"].items()
    ]
    return [*rows, ("mean", "", "", f"{record['mean_dsc']:.4f}")]
