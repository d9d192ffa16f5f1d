"""What a prediction gives: labels on the scan's grid, their names, and how long it took."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from stunet.imaging.formats.table import write_labels
from stunet.imaging.volume import Volume


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
    """

    labels: np.ndarray
    names: Mapping[int, str]
    scan: Volume
    timings: Timings
    warnings: tuple[str, ...] = ()

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
        # slice by slice, for bincount makes 8 bytes of each voxel
        return sum(
            (np.bincount(labels_YX.ravel(), minlength=len(self.names)) for labels_YX in self.labels),
            start=np.zeros(len(self.names), dtype=np.int64),
        )

    def volumes_mm3(self) -> dict[str, float]:
        """Volume of every structure by name, in the order of the labels; 0.0 for one that was not found."""
        return {name: float(self.voxel_counts[label] * self.voxel_mm3) for label, name in self.names.items() if label}

    def save(self, path: str | Path) -> None:
        """Write the labels as a `.nii` or `.nii.gz` file on exactly the scan's grid.

        Raises:
            UserError: another suffix, or a file that cannot be written.
        """
        write_labels(self.labels, self.scan, path, self.names)
