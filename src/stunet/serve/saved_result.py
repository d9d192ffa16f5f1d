"""The files of a finished job, and how to read them back to make other formats."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from stunet.errors import UnknownNameError
from stunet.files import read_json_object, write_json
from stunet.imaging.formats.dicom_results import Algorithm
from stunet.imaging.formats.nifti_write import write_nifti_image
from stunet.imaging.formats.registry import read_labels
from stunet.inference.segmentation import Segmentation, Timings
from stunet.serve.answers import StructureAnswer
from stunet.serve.offered_models import class_answer
from stunet.serve.overview import overview_step, save_overview
from stunet.serve.reading import read_scan

if TYPE_CHECKING:
    from stunet.imaging.volume import Volume

LABELS, SCAN, STRUCTURES, RECORD = "labels.nii.gz", "scan.nii.gz", "structures.json", "record.json"


@dataclass(frozen=True)
class ResultPlace:
    """Where a finished job and its scan lie.

    Attributes:
        folder: of the job.
        scan: folder of the upload.
        series: number of the DICOM series that was segmented.
    """

    folder: Path
    scan: Path
    series: int | None


def save_result(segmentation: Segmentation, folder: Path, record: dict[str, object]) -> None:
    """Write labels, the scan on their grid, an overview of large ones, and a description of the structures.

    Args:
        segmentation: of a scan.
        folder: of the job.
        record: versions, settings and seconds; contains no path.
    """
    write_nifti_image(segmentation.scan.array[0], segmentation.scan, folder / SCAN)
    segmentation.save(folder / LABELS)
    step = overview_step(segmentation.labels.shape)
    if step > 1:
        save_overview(segmentation, folder, step)
    write_json(folder / STRUCTURES, [asdict(one) for one in describe(segmentation)])
    meaning = {
        "names": {str(label): name for label, name in segmentation.names.items()},
        "members": {str(label): list(labels) for label, labels in segmentation.members.items()},
        "algorithm": asdict(segmentation.algorithm),
        "timings": asdict(segmentation.timings),
        "warnings": list(segmentation.warnings),
        "overview_step": step,
    }
    write_json(folder / RECORD, {**record, **meaning})


def describe(segmentation: Segmentation) -> list[StructureAnswer]:
    """Every structure that was found, in the order of the labels."""
    statistics = segmentation.statistics()
    warnings = segmentation.structure_warnings(statistics)
    label_of = {name: label for label, name in segmentation.names.items()}
    answers = []
    for name, found in statistics.items():
        of_class = class_answer(label_of[name], name)
        answers.append(
            StructureAnswer(
                **asdict(of_class),
                volume_mm3=found.volume_mm3,
                mean=found.mean,
                voxels=found.voxels,
                centroid=[round(mm, 3) for mm in found.centroid_mm],
                warnings=list(warnings.get(name, ())),
            )
        )
    return answers


def read_structures(folder: Path) -> list[StructureAnswer]:
    """What `describe` found, as it was saved."""
    return [StructureAnswer(**one) for one in json.loads((folder / STRUCTURES).read_text(encoding="utf-8"))]


def read_result(place: ResultPlace, classes: Sequence[str] = ()) -> Segmentation:
    """The segmentation of a finished job, with its DICOM slices if there are any.

    Args:
        place: of the job.
        classes: the only structures to keep; empty for all.

    Raises:
        UserError: a structure that the model does not have, or a scan that can no longer be read.
    """
    scan = read_scan(place.scan, place.series, lambda: None)
    return of_classes(_segmentation(place.folder, scan), classes)


def read_on_viewer_grid(folder: Path, classes: Sequence[str] = ()) -> Segmentation:
    """The segmentation of a finished job, with the scan that was saved for the viewer. Needs no upload."""
    from stunet.imaging.formats.registry import read_volume

    return of_classes(_segmentation(folder, read_volume(folder / SCAN)), classes)


def _segmentation(folder: Path, scan: "Volume") -> Segmentation:
    labels = read_labels(folder / LABELS).array[0]
    return Segmentation(labels=labels, scan=scan, **meaning_of(read_json_object(folder / RECORD)))


def meaning_of(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a record says of labels, as fields of a `Segmentation`."""
    return {
        "names": {int(label): name for label, name in record["names"].items()},
        "members": {int(label): tuple(labels) for label, labels in record["members"].items()},
        "algorithm": Algorithm(**record["algorithm"]),
        "timings": Timings(**record["timings"]),
        "warnings": tuple(record["warnings"]),
    }


def of_classes(segmentation: Segmentation, classes: Sequence[str]) -> Segmentation:
    """A segmentation with some of its structures only; the others become background.

    Raises:
        UnknownNameError: a structure that it does not have.
    """
    if not classes:
        return segmentation
    chosen = {_label_of(name, segmentation) for name in classes}
    kept = sorted({one for label in chosen for one in segmentation.labels_in(label)})
    labels = np.where(np.isin(segmentation.labels, kept), segmentation.labels, 0).astype(segmentation.labels.dtype)
    names = {label: name for label, name in segmentation.names.items() if label == 0 or label in chosen}
    return replace(segmentation, labels=labels, names=names)


def _label_of(name: str, segmentation: Segmentation) -> int:
    found = {known: label for label, known in segmentation.names.items() if label}
    if name not in found:
        raise UnknownNameError.of("structure", name, found)
    return found[name]
