"""The result of a prediction: labels on the scan's grid, their names, and timings."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from stunet.errors import UnknownNameError
from stunet.files import made_folder
from stunet.imaging.formats.dicom_results import Algorithm, DicomDetails, Kind, dicom_kind, write_dicom_labels
from stunet.imaging.formats.nibabel_image import NiftiImage, labels_as_nibabel
from stunet.imaging.formats.registry import write_labels
from stunet.imaging.label_array import count_labels
from stunet.imaging.volume import Volume
from stunet.inference.statistics import StructureStatistics, structure_statistics
from stunet.inference.structure_warnings import structure_warnings

if TYPE_CHECKING:
    from stunet.imaging.formats.sitk_image import SitkImage
    from stunet.inference.search import Search

LONGEST_FILE_NAME = 50
"""The most characters of a structure's name in a file name; file systems allow 255 bytes, up to four per character."""


@dataclass(frozen=True)
class Timings:
    """The seconds of each stage.

    Attributes:
        load: reading the scan; 0 if it was already in memory.
        preprocess: converting it to the network's grid and intensities.
        network: running and averaging all windows.
        labelling: from features to labels on the scan's grid.
    """

    load: float
    preprocess: float
    network: float
    labelling: float

    @property
    def total(self) -> float:
        """The total seconds of all stages."""
        return sum(astuple(self))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one scan.

    Attributes:
        labels: label map (Z, Y, X) of the scan's file, uint8, or uint16 for more than 256 classes.
        names: label to structure; 0 is background.
        scan: the segmented scan.
        timings: seconds by stage.
        warnings: sentences that users of the labels should read.
        members: label to all labels whose voxels belong to its structure, if structures overlap (regions): voxels
            overwritten by a later region still belong to the earlier one. Structures that are not listed have only
            their own label.
        algorithm: the model's name and version for DICOM results.
        search: what a first pass found, if only the windows near the requested structures ran.
    """

    labels: np.ndarray
    names: Mapping[int, str]
    scan: Volume
    timings: Timings
    warnings: tuple[str, ...] = ()
    members: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    algorithm: Algorithm = field(default_factory=Algorithm)
    search: "Search | None" = None

    @property
    def affine(self) -> np.ndarray:
        """The scan's affine (4, 4), from voxel index (x, y, z, 1) to RAS+ millimetres."""
        return self.scan.affine

    @property
    def voxel_mm3(self) -> float:
        """The volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def voxel_counts(self) -> np.ndarray:
        """The number of voxels of each label, background included: int64, indexed by label."""
        return count_labels(self.labels, max(self.names) + 1)

    def volumes_mm3(self) -> dict[str, float]:
        """The volume of every structure by name, in the order of the labels; 0.0 if it was not found."""
        counts = {label: self.voxel_counts[list(self.labels_in(label))].sum() for label in self.names if label}
        return {self.names[label]: float(count * self.voxel_mm3) for label, count in counts.items()}

    def labels_in(self, label: int) -> tuple[int, ...]:
        """All labels whose voxels belong to a label's structure: itself, or the members of a region."""
        return self.members.get(label, (label,))

    def save(self, path: str | Path) -> None:
        """Write the labels on the scan's grid, in the format of the suffix (`stunet.imaging.formats.registry`).

        `.dcm` is a DICOM segmentation, `.rtstruct.dcm` a structure set; see `save_dicom_seg` and `save_rtstruct`.

        Raises:
            UserError: the suffix is unknown, or the file cannot be written.
        """
        kind = dicom_kind(Path(path))
        if kind is None:
            write_labels(self.labels, self.scan, path, self.names)
        else:
            self.save_dicom(path, kind)

    def save_dicom_seg(
        self,
        path: str | Path,
        kind: Literal["labelmap", "binary"] = "labelmap",
        details: DicomDetails = DicomDetails(),  # noqa: B008 (frozen)
    ) -> None:
        """Write the labels as a DICOM segmentation, on the scan's slices.

        Args:
            path: usually ends in `.dcm`. The file appears only when complete.
            kind: "labelmap" for one label at each voxel, "binary" for a mask of each structure, which older viewers
                and archives need.
            details: codes of the user's own classes, and the series if the scan is not DICOM.

        Raises:
            UserError: the scan is not DICOM and no matching series is given, the series lacks identifiers that a result
                must refer to, there is no structure, structures overlap in a label map, or the file cannot be written.
        """
        self.save_dicom(path, kind, details)

    def save_rtstruct(self, path: str | Path, details: DicomDetails = DicomDetails()) -> None:  # noqa: B008 (frozen)
        """Write closed contours of each structure on each slice, as an RT structure set; see `save_dicom_seg`."""
        self.save_dicom(path, "rtstruct", details)

    def save_dicom(
        self,
        path: str | Path,
        kind: Kind,
        details: DicomDetails = DicomDetails(),  # noqa: B008 (frozen)
    ) -> None:
        """Write one of the kinds of DICOM results; see `save_dicom_seg`."""
        write_dicom_labels(kind, self.labels, self.scan, Path(path), self.names, self.members, self.algorithm, details)

    def to_nibabel(self) -> NiftiImage:
        """The labels as a nibabel image with the header that `save` writes; a `Nifti2Image` if the scan was one.

        Its voxels are (X, Y, Z), the transpose of `labels`.
        """
        return labels_as_nibabel(self.labels, self.scan, self.names)

    def to_sitk(self) -> "SitkImage":
        """The labels as a SimpleITK image with the scan's spacing, direction and origin."""
        from stunet.imaging.formats.sitk_image import labels_as_sitk

        return labels_as_sitk(self.labels, self.scan)

    def statistics(self) -> dict[str, StructureStatistics]:
        """Size, intensities and position of every structure that was found, in the order of the labels.

        Each call reads labels and scan; keep the result.
        """
        return structure_statistics(self.labels, self.scan, self.names, self.members)

    def structure_warnings(self, statistics: Mapping[str, StructureStatistics]) -> dict[str, tuple[str, ...]]:
        """What looks wrong about each structure: it touches the edge of the scan, is in pieces, or on the wrong side.

        Args:
            statistics: what `statistics()` gave.

        Returns:
            Structure to sentences; a structure without a warning is left out.
        """
        return structure_warnings(self.labels, statistics, self.names, self.members)

    def show(self) -> object:
        """Show scan and labels in a notebook; see `stunet.pictures.notebook.show`, which returns what this returns.

        Raises:
            UserError: nothing is installed that could show them.
        """
        from stunet import show  # the front door, because pictures are made on a floor above

        return show(self)

    def save_structures(self, folder: str | Path, names: Sequence[str] | None = None) -> None:
        """Write one mask per structure, `folder/NAME.nii.gz`, on the scan's grid.

        Masks are uint8, 1 inside and 0 outside. A structure that was not found gets a file of zeros, so that every scan
        has the same files. For file names see `file_names`.

        Args:
            folder: Created if missing.
            names: Structures to write; all by default.

        Raises:
            UserError: A structure is unknown, or a file cannot be written.
        """
        chosen = self._labels_of(names)
        files = file_names(self.names)
        folder = made_folder(Path(folder))
        mask = np.empty(self.labels.shape, dtype=np.uint8)
        for label in chosen:
            mask.view(bool)[:] = np.isin(self.labels, self.labels_in(label))
            write_labels(mask, self.scan, folder / f"{files[label]}.nii.gz", {1: self.names[label]})

    def _labels_of(self, names: Sequence[str] | None) -> list[int]:
        """The labels of the named structures, or all labels."""
        label_of = {name: label for label, name in self.names.items() if label}
        if names is None:
            return sorted(label for label in self.names if label)
        unknown = [name for name in names if name not in label_of]
        if unknown:
            raise UnknownNameError.of("structure", unknown[0], label_of)
        return [label_of[name] for name in names]


def file_names(names: Mapping[int, str]) -> dict[int, str]:
    """A file name without suffix for each structure, safe on all systems.

    Letters, digits and `_ + . -` stay; each run of other characters becomes one `_`; leading dots are removed; long
    names are cut. If two structures would get the same file name (ignoring case), the later one gets its label
    appended.

    Args:
        names: Label to structure; 0 is background and gets none.

    >>> file_names({0: "background", 1: "liver", 2: "lesion (left/right)", 3: "Liver", 4: "../up"})
    {1: 'liver', 2: 'lesion_left_right_', 3: 'Liver_3', 4: '_up'}
    """
    files: dict[int, str] = {}
    for label, name in sorted(names.items()):
        file = re.sub(r"[^\w+.-]+", "_", name).lstrip(".")[:LONGEST_FILE_NAME] or "structure"
        while file.casefold() in {other.casefold() for other in files.values()}:
            file = f"{file}_{label}"
        if label:
            files[label] = file
    return files
