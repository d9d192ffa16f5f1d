"""Labels as DICOM objects: the slices that they lie on, and what the object says about them.

The slices are those that the scan was read from, or those of a series that the user names. Nothing here imports a
DICOM library before it is needed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from stunet.errors import FileError, OutputError
from stunet.extras import from_extra
from stunet.files import replacing
from stunet.imaging.affine import AxisMoves, farthest_corner, orientation
from stunet.imaging.label_array import count_labels
from stunet.imaging.volume import OnSlices, Volume, reorient
from stunet.labels.codes import StructureCode

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.geometry import Stack
    from stunet.imaging.formats.dicom.regular_grid import RegularGrid
    from stunet.imaging.formats.dicom.series import RegularSlices

Kind = Literal["labelmap", "binary", "rtstruct"]
"""A segmentation with one label for each voxel, one with a mask for each structure, or contours."""

DICOM_KINDS: dict[str, Kind] = {
    ".dcm": "labelmap",
    ".seg.dcm": "labelmap",
    ".binary.dcm": "binary",
    ".rtstruct.dcm": "rtstruct",
}
"""Suffix, in small letters, to what is written."""

REFERENCE_TOLERANCE = 0.1
"""Labels of an image lie on a reference series if no corner is farther off than this fraction of a voxel."""


@dataclass(frozen=True)
class Algorithm:
    """What made the labels.

    Attributes:
        name: of the model.
        version: of the model and of stunet.
    """

    name: str = "unknown"
    version: str = "unknown"


@dataclass(frozen=True, eq=False)
class DicomDetails:
    """Further content of a DICOM object.

    Attributes:
        codes: of classes that are not among the 104 structures, or need another code.
        reference: a folder, zip or file with the series that the labels lie on; None for the scan's own.
    """

    codes: Mapping[str, StructureCode] = field(default_factory=dict)
    reference: Path | None = None


@dataclass(frozen=True, eq=False)
class SliceLabels:
    """Labels on the slices of a series, and what they mean.

    Attributes:
        stack: the slices.
        labels: (K, rows, columns) in the order of the stack.
        names: label to structure, of those that occur, or of all if none does; without background.
        members: as in `stunet.inference.segmentation.Segmentation`.
        codes: as in `DicomDetails`.
        algorithm: what made them.
        is_empty: whether no structure occurs.
    """

    stack: "Stack"
    labels: np.ndarray
    names: Mapping[int, str]
    members: Mapping[int, tuple[int, ...]]
    codes: Mapping[str, StructureCode]
    algorithm: Algorithm
    is_empty: bool = False

    @property
    def overlap(self) -> bool:
        """Whether structures share voxels."""
        return any(set(self.labels_in(label)) != {label} for label in self.names)

    def labels_in(self, label: int) -> tuple[int, ...]:
        """All labels whose voxels belong to a structure."""
        return self.members.get(label, (label,))

    def mask(self, labels: np.ndarray, label: int) -> np.ndarray:
        """Where in labels a structure is: boolean, of the same shape."""
        own = self.labels_in(label)
        return labels == label if own == (label,) else np.isin(labels, own)


def dicom_kind(path: Path) -> Kind | None:
    """The kind of object in a file of this name; None if it is not DICOM.

    >>> dicom_kind(Path("a.RTSTRUCT.dcm")), dicom_kind(Path("a.nii.gz"))
    ('rtstruct', None)
    """
    suffix = max((one for one in DICOM_KINDS if path.name.lower().endswith(one)), key=len, default="")
    return DICOM_KINDS.get(suffix)


def write_dicom_labels(
    kind: Kind,
    labels_ZYX: np.ndarray,
    like: Volume,
    path: Path,
    names: Mapping[int, str],
    members: Mapping[int, tuple[int, ...]],
    algorithm: Algorithm,
    details: DicomDetails,
) -> None:
    """Write labels as a DICOM object of the same patient, study and frame of reference.

    It describes the structures that were found. If none was found, it describes all of the model, without voxels.

    Args:
        kind: which object.
        labels_ZYX: (Z, Y, X) on the grid of `like`.
        like: the scan.
        path: appears only when complete.
        names: label to structure.
        members: of overlapping structures, see `Segmentation`.
        algorithm: what made the labels.
        details: codes, and the series if the scan is none.

    Raises:
        UserError: a scan that is no DICOM and no series that it lies on, a series without the identifiers to which an
            object must refer, no names, structures that overlap in a label map, or a file that cannot be written.
    """
    on_slices = slices_of(like, details.reference)
    write = _writer(kind)
    labels_KYX = on_slices.labels_on_slices(labels_ZYX)
    counts = count_labels(labels_KYX, max((*names, *(int(labels_KYX.max()),))) + 1)
    found = {
        label: names.get(label, f"label {label}")
        for label in range(1, len(counts))
        if counts[list(members.get(label, (label,)))].any()
    }
    described = found or {label: name for label, name in names.items() if label}
    if not described:
        raise OutputError(f"{path}: the labels have no names, and a DICOM object describes at least one structure.")
    result = SliceLabels(
        on_slices.stack, labels_KYX, described, members if found else {}, details.codes, algorithm, not found
    )
    if kind == "labelmap" and result.overlap:
        raise OutputError(f"{path}: structures overlap, which a label map cannot hold; write dicom-seg-binary instead.")
    with replacing(path) as temporary:
        write(result, temporary)


def _writer(kind: Kind) -> Callable[[SliceLabels, Path], None]:
    """The function that writes one kind.

    Raises:
        UserError: its package is not installed.
    """
    with from_extra("dicom"):
        if kind == "rtstruct":
            from stunet.imaging.formats.rtstruct import write_rtstruct

            return write_rtstruct
        from stunet.imaging.formats import dicom_seg

        return dicom_seg.write_labelmap if kind == "labelmap" else dicom_seg.write_binary


def require_dicom_results(kind: Kind, scan: Volume, details: DicomDetails) -> None:
    """Check, before long work, that labels of this scan can be written as DICOM.

    Raises:
        UserError: as for `write_dicom_labels`.
    """
    _writer(kind)
    from stunet.imaging.formats.dicom_source import source_of

    source_of(slices_of(scan, details.reference).stack)


def slices_of(scan: Volume, reference: Path | None) -> OnSlices:
    """The slices on which labels of a scan lie.

    Args:
        scan: that was segmented.
        reference: the series that it was made from, if it is not DICOM itself.

    Raises:
        UserError: the scan is no DICOM and there is no reference, or it does not lie on the reference.
    """
    if reference is not None:
        return _on_reference(scan, reference)
    if scan.slices is None:
        raise OutputError(
            f"{scan.source}: is not DICOM, so its labels cannot be written as DICOM; give the series that it was made "
            "from with --reference, or write another format."
        )
    return scan.slices


@dataclass(frozen=True, eq=False)
class ReferenceSlices:
    """Slices for the labels of an image whose axes run in other directions.

    Attributes:
        slices: of the series.
        moves: from the image's axes to those of the slices.
    """

    slices: OnSlices
    moves: AxisMoves

    @property
    def stack(self) -> "Stack":
        """The slices, in order."""
        return self.slices.stack

    def labels_on_slices(self, labels_ZYX: np.ndarray) -> np.ndarray:
        """Labels (Z, Y, X) of the image on the slices: (slices, rows, columns)."""
        return self.slices.labels_on_slices(self.moves.apply(labels_ZYX))


def _on_reference(scan: Volume, reference: Path) -> ReferenceSlices:
    """The slices of the series on which an image lies, in any direction of its axes."""
    from stunet.imaging.formats.dicom.found import find_series

    found = find_series(reference)
    on_series = [
        slices for series in found.series if not series.refusal and (slices := _lying_on(scan, series.grid)) is not None
    ]
    if not on_series:
        raise FileError(
            f"{scan.source}: does not lie on the slices of a series in {reference}, so its labels cannot be written "
            "onto them; segment the DICOM series itself."
        )
    if len(on_series) > 1:
        raise FileError(
            f"{scan.source}: lies on the slices of {len(on_series)} series in {reference}; give --reference the folder "
            "of one."
        )
    return on_series[0]


def _lying_on(scan: Volume, grid: "RegularSlices | RegularGrid") -> ReferenceSlices | None:
    """The slices, if each voxel of an image lies on a voxel of theirs."""
    moved, moves = reorient(scan, orientation(grid.affine))
    tolerance = REFERENCE_TOLERANCE * min(moved.spacing)
    lies_on = moved.shape == grid.shape and farthest_corner(moved.affine, grid.affine, grid.shape) <= tolerance
    return ReferenceSlices(grid, moves) if lies_on else None
