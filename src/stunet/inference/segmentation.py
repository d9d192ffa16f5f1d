"""What a prediction gives: labels on the scan's grid, their names, and how long it took."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stunet.errors import UnknownNameError
from stunet.files import made_folder
from stunet.imaging.formats.nibabel_image import NiftiImage, labels_as_nibabel
from stunet.imaging.formats.registry import write_labels
from stunet.imaging.volume import Volume, count_labels
from stunet.inference.statistics import StructureStatistics, structure_statistics

if TYPE_CHECKING:
    from stunet.imaging.formats.sitk_image import SitkImage

LONGEST_FILE_NAME = 50
"""Letters of a structure's name that its file keeps; no file system takes more than 255 bytes, four to a letter."""


@dataclass(frozen=True)
class Timings:
    """Seconds that each stage took.

    Attributes:
        load: reading the scan; 0 where it was in memory already.
        preprocess: to the network's grid and intensities.
        network: all windows, and averaging them.
        labelling: from features to labels on the scan's grid.
    """

    load: float
    preprocess: float
    network: float
    labelling: float

    @property
    def total(self) -> float:
        """Seconds of all stages together."""
        return sum(astuple(self))


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Labels of one scan.

    Attributes:
        labels: (Z, Y, X) of the scan's file, uint8, or uint16 where there are more than 256 classes.
        names: label to structure; 0 is background.
        scan: what was segmented.
        timings: seconds by stage.
        warnings: sentences that whoever uses the labels should read.
        members: label to all labels whose voxels belong to its structure, where structures overlap (regions): what is
            painted over a region still lies in it. A structure that is not named has its own label alone.
    """

    labels: np.ndarray
    names: Mapping[int, str]
    scan: Volume
    timings: Timings
    warnings: tuple[str, ...] = ()
    members: Mapping[int, tuple[int, ...]] = field(default_factory=dict)

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel index (x, y, z, 1) to RAS+ millimetres, the scan's."""
        return self.scan.affine

    @property
    def voxel_mm3(self) -> float:
        """Volume of one voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @cached_property
    def voxel_counts(self) -> np.ndarray:
        """Voxels of each label, background included: int64, label by label."""
        return count_labels(self.labels, max(self.names) + 1)

    def volumes_mm3(self) -> dict[str, float]:
        """Volume of every structure by name, in the order of the labels; 0.0 for one that was not found."""
        counts = {label: self.voxel_counts[list(self.labels_in(label))].sum() for label in self.names if label}
        return {self.names[label]: float(count * self.voxel_mm3) for label, count in counts.items()}

    def labels_in(self, label: int) -> tuple[int, ...]:
        """All labels whose voxels belong to the structure of a label: itself, or what a region is made of."""
        return self.members.get(label, (label,))

    def save(self, path: str | Path) -> None:
        """Write the labels on exactly the scan's grid, in the format of the suffix (`stunet.imaging.formats.registry`).

        Raises:
            UserError: another suffix, or a file that cannot be written.
        """
        write_labels(self.labels, self.scan, path, self.names)

    def to_nibabel(self) -> NiftiImage:
        """The labels as an image of nibabel, with the header that `save` writes: a `Nifti2Image` if the scan was one.

        Its voxels are (X, Y, Z), the transpose of `labels`.
        """
        return labels_as_nibabel(self.labels, self.scan, self.names)

    def to_sitk(self) -> "SitkImage":
        """The labels as an image of SimpleITK, with the scan's spacing, direction and origin."""
        from stunet.imaging.formats.sitk_image import labels_as_sitk

        return labels_as_sitk(self.labels, self.scan)

    def statistics(self) -> dict[str, StructureStatistics]:
        """Size, intensities and place of every structure that was found, in the order of the labels.

        It reads labels and scan once; keep what it gives.
        """
        return structure_statistics(self.labels, self.scan, self.names, self.members)

    def save_structures(self, folder: str | Path, names: Sequence[str] | None = None) -> None:
        """Write one mask per structure, `folder/NAME.nii.gz`, on exactly the scan's grid.

        Masks are uint8, 1 inside and 0 outside. A structure that was not found gets a file too, of zeros, so that every
        scan leaves the same files. How names become file names: see `file_names`.

        Args:
            folder: Made where missing.
            names: Structures to write; all of the model by default.

        Raises:
            UserError: A name that no structure has, or a file that cannot be written.
        """
        chosen = self._labels_of(names)
        files = file_names(self.names)
        folder = made_folder(Path(folder))
        mask = np.empty(self.labels.shape, dtype=np.uint8)
        for label in chosen:
            mask.view(bool)[:] = np.isin(self.labels, self.labels_in(label))
            write_labels(mask, self.scan, folder / f"{files[label]}.nii.gz", {1: self.names[label]})

    def _labels_of(self, names: Sequence[str] | None) -> list[int]:
        """The labels of some structures, or of all."""
        label_of = {name: label for label, name in self.names.items() if label}
        if names is None:
            return sorted(label for label in self.names if label)
        unknown = [name for name in names if name not in label_of]
        if unknown:
            raise UnknownNameError.of("structure", unknown[0], label_of)
        return [label_of[name] for name in names]


def file_names(names: Mapping[int, str]) -> dict[int, str]:
    """A file name, without suffix, for each structure: its name where that is safe everywhere.

    Letters, digits and `_ + . -` stay; each run of anything else becomes one `_`, dots at the beginning go, and a long
    name is cut. Where two structures would get one file (capitals count for nothing), the later gets its label added.

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
