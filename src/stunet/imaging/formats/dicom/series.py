"""A series that may be a scan: its name, what speaks against it, and how it is read."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from stunet.errors import FileError
from stunet.imaging.formats.dicom import geometry
from stunet.imaging.formats.dicom.geometry import Stack
from stunet.imaging.formats.dicom.pixels import read_pixels
from stunet.imaging.formats.dicom.regular_grid import RegularGrid
from stunet.imaging.volume import Volume, check_size


@dataclass(frozen=True)
class Reading:
    """How series are read.

    Attributes:
        strict_geometry: refuse tilted and unevenly spaced slices, instead of resampling them onto a rectangular grid.
        suv: turn PET activity into SUV by body weight.
    """

    strict_geometry: bool = False
    suv: bool = False


@dataclass(frozen=True, eq=False)
class Series:
    """Slices that may be one scan: a series, or one of several volumes in it.

    Attributes:
        number: for users to choose it, from 1.
        stack: the slices in order.
        part: what distinguishes it from the other volumes of its series, such as "acquisition 2"; empty if it is alone.
        refusal: why it cannot be read, as a sentence; empty if it can be read.
        where: what was searched, for messages.
        warnings: sentences about skipped files.
        reading: how it is read.
    """

    number: int
    stack: Stack
    part: str
    refusal: str
    where: Path
    warnings: tuple[str, ...] = ()
    reading: Reading = field(default_factory=Reading)

    def __str__(self) -> str:
        """Where it lies, for messages; contains nothing from its headers."""
        return f"{self.folder} (series {self.number})"

    @property
    def uid(self) -> str:
        """SeriesInstanceUID; several may share it."""
        return self.stack.slices[0].facts.uid

    @property
    def study(self) -> str:
        """StudyInstanceUID."""
        return self.stack.slices[0].facts.study

    @property
    def modality(self) -> str:
        """CT, MR, PT or NM."""
        return self.stack.slices[0].facts.modality

    @property
    def folder(self) -> Path:
        """The folder that all its files lie in or below."""
        folders = {one.source.folder for one in self.stack.slices}
        return common_folder(folders)

    @property
    def is_original_axial(self) -> bool:
        """Whether the scanner made its slices so, across the patient."""
        return self.stack.slices[0].is_original_axial

    @property
    def extent(self) -> float:
        """mm from the first to the last slice."""
        return float(self.stack.heights[-1])

    @property
    def name(self) -> str:
        """Number and description, for messages."""
        facts = self.stack.slices[0].facts
        described = " ".join(part for part in (facts.description, facts.modality, self.part) if part)
        return f"series {self.number} ({described}, {len(self.stack.slices)} slices)"

    @property
    def remarks(self) -> tuple[str, ...]:
        """What speaks against it, each in a few words."""
        return (*((self.refusal,) if self.refusal else ()), *geometry.remarks(self.stack))

    def taken_of(self, count: int) -> "Series":
        """The same, with a warning that it was chosen among `count` series."""
        taken = f"{self.where}: took {self.name} of {count}; `stunet series` lists them, and --series chooses another."
        return replace(self, warnings=(*self.warnings, taken))

    def read(self) -> Volume:
        """Read the series.

        Returns:
            Volume with array (1, Z, Y, X), slices in the order of their normal; int16 if the rescaled values fit,
            else float32. Tilted or unevenly spaced slices are resampled onto a rectangular grid, and the volume's
            warnings say so; its `slices` bring labels back onto them.

        Raises:
            UserError: what `refusal` says, pixels that cannot be decoded, or SUV that cannot be computed.
        """
        if self.refusal:
            raise FileError(self.refusal)
        source, grid = str(self.folder), self.grid
        check_size(grid.shape, source)
        factor = self._suv_factor()
        array = read_pixels(self.stack.slices)
        if factor is not None:
            array = array.astype(np.float32) * np.float32(factor)
        warnings = self.warnings if self.stack.is_regular else (*self.warnings, _resampled(self))
        return Volume(grid.values(array)[None], grid.affine, None, source, grid.spacing, warnings, grid)

    @property
    def grid(self) -> "RegularSlices | RegularGrid":
        """Where its volume lies: its slices as they are, or a rectangular grid around them."""
        return RegularSlices(self.stack) if self.stack.is_regular else RegularGrid.around(self.stack)

    def _suv_factor(self) -> float | None:
        if not self.reading.suv:
            return None
        from stunet.imaging.formats.dicom.suv import suv_factor

        return suv_factor(self.stack.slices)


@dataclass(frozen=True, eq=False)
class RegularSlices:
    """Slices that are the planes of a volume as they are.

    Attributes:
        stack: the slices.
    """

    stack: Stack

    @property
    def shape(self) -> tuple[int, int, int]:
        """(Z, Y, X)."""
        return self.stack.size

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(Z, Y, X) mm."""
        return self.stack.spacing

    @property
    def affine(self) -> np.ndarray:
        """(4, 4) voxel (x, y, z) to RAS+ mm."""
        return self.stack.affine

    def values(self, pixels_KYX: np.ndarray) -> np.ndarray:
        """The values of the slices, as they are."""
        return pixels_KYX

    def labels_on_slices(self, labels_ZYX: np.ndarray) -> np.ndarray:
        """The labels, slice by slice in the order of the stack: as they are."""
        return labels_ZYX


def common_folder(folders: Iterable[Path]) -> Path:
    """The folder that all of some lie in, or are."""
    first, *others = (folder.parts for folder in folders)
    depth = len(first)
    for parts in others:
        same = [one == other for one, other in zip(first, parts, strict=False)]
        depth = min(depth, same.index(False) if False in same else len(same))
    return Path(*first[:depth])


def _resampled(series: Series) -> str:
    what = " and ".join(geometry.remarks(series.stack))
    return (
        f"{series.folder}: the slices do not lie on a rectangular grid ({what}), so they are resampled onto one; "
        "labels in NIfTI lie on that grid. --strict-geometry refuses such series."
    )
