"""The files that users can download, by their names in the API. A new format is one more line in `FORMATS`."""

import csv
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stunet.batch.formats import FORMATS as LABEL_FORMATS
from stunet.batch.formats import LabelFile
from stunet.errors import UserError
from stunet.files import made_folder, read_json_object, replacing
from stunet.imaging.formats.dicom_results import DicomDetails
from stunet.imaging.formats.mesh_files import write_glb, write_stl
from stunet.imaging.meshes import Mesh, surface_mesh
from stunet.labels.ontology import colour_of
from stunet.serve.answers import StructureAnswer
from stunet.serve.saved_result import (
    LABELS,
    RECORD,
    ResultPlace,
    read_on_viewer_grid,
    read_result,
    read_structures,
)
from stunet.serve.wording import without_paths

Write = Callable[[ResultPlace, Sequence[str], Path], None]
"""Writes some structures of a result, or all, to a file."""

COLUMNS = ("value", "name", "group", "volume_mm3", "mean", "voxels", "x_mm", "y_mm", "z_mm", "warnings")


REPORT_TITLE = "Segmentation"
"""Of reports; the name of the scan may be a patient's."""


@dataclass(frozen=True)
class ResultFormat:
    """A kind of file.

    Attributes:
        ending: of its name.
        media_type: of HTTP.
        write: makes it.
    """

    ending: str
    media_type: str
    write: Write


def make_file(place: ResultPlace, name: str, classes: Sequence[str]) -> Path:
    """A file of a finished job; made at the first time, and kept with the job.

    Args:
        place: of the job.
        name: in `FORMATS`.
        classes: the only structures; empty for all.

    Raises:
        UserError: it cannot be made of this scan; the sentence names no file of the server.
    """
    kind = FORMATS[name]
    if name == "nifti" and not classes:
        return place.folder / LABELS
    chosen = hashlib.sha256("\n".join(classes).encode()).hexdigest()[:16]
    path = made_folder(place.folder / "files") / f"{chosen}{kind.ending}"
    if not path.exists():
        try:
            kind.write(place, classes, path)
        except UserError as error:
            raise type(error)(without_paths(without_paths(str(error), place.scan), place.folder)) from None
    return path


def _labels(name: str) -> Write:
    """Writes one of the formats that `stunet predict` writes, too."""

    def write(place: ResultPlace, classes: Sequence[str], path: Path) -> None:
        """Write the labels of some structures, or of all."""
        kind = LABEL_FORMATS[name].kind
        if kind is None and not place.scan.exists():
            segmentation = read_on_viewer_grid(place.folder, classes)
        else:
            segmentation = read_result(place, classes)
        LabelFile(path, kind).write(segmentation, DicomDetails())

    return write


def _write_csv(place: ResultPlace, classes: Sequence[str], path: Path) -> None:
    structures = [one for one in read_structures(place.folder) if not classes or one.name in classes]
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        rows.writerows(_row(one) for one in structures)


def _row(one: StructureAnswer) -> tuple[object, ...]:
    return one.value, one.name, one.group, one.volume_mm3, one.mean, one.voxels, *one.centroid, " ".join(one.warnings)


def _write_stl(place: ResultPlace, classes: Sequence[str], path: Path) -> None:
    write_stl(_meshes(place, classes), path)


def _write_glb(place: ResultPlace, classes: Sequence[str], path: Path) -> None:
    write_glb(_meshes(place, classes), path)


def _write_report(place: ResultPlace, classes: Sequence[str], path: Path) -> None:
    from stunet.pictures.case_report import case_report, save_case_report

    segmentation = read_on_viewer_grid(place.folder, classes)
    save_case_report(case_report(segmentation, read_json_object(place.folder / RECORD), REPORT_TITLE), path)


def _meshes(place: ResultPlace, classes: Sequence[str]) -> list[Mesh]:
    """Of every structure that was found."""
    segmentation = read_on_viewer_grid(place.folder, classes)
    meshes = []
    for label, name in segmentation.names.items():
        mask = np.isin(segmentation.labels, segmentation.labels_in(label)) if label else np.zeros(1, dtype=bool)
        if mask.any():
            meshes.append(surface_mesh(mask, segmentation.affine, name, colour_of(name, label)))
    return meshes


DICOM = "application/dicom"

FORMATS: dict[str, ResultFormat] = {
    "nifti": ResultFormat(".nii.gz", "application/gzip", _labels("nifti")),
    "nrrd": ResultFormat(".nrrd", "application/octet-stream", _labels("nrrd")),
    "seg.nrrd": ResultFormat(".seg.nrrd", "application/octet-stream", _labels("seg.nrrd")),
    "dicom-seg": ResultFormat(".seg.dcm", DICOM, _labels("dicom-seg")),
    "dicom-seg-binary": ResultFormat(".binary.dcm", DICOM, _labels("dicom-seg-binary")),
    "rtstruct": ResultFormat(".rtstruct.dcm", DICOM, _labels("rtstruct")),
    "csv": ResultFormat(".csv", "text/csv; charset=utf-8", _write_csv),
    "stl": ResultFormat(".stl", "model/stl", _write_stl),
    "glb": ResultFormat(".glb", "model/gltf-binary", _write_glb),
    "html": ResultFormat(".html", "text/html; charset=utf-8", _write_report),
    "pdf": ResultFormat(".pdf", "application/pdf", _write_report),
}
"""By name."""
