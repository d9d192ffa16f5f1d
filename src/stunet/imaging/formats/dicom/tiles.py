"""Images that show a whole volume as tiles, row by row from the first corner: Siemens' MOSAIC and UIH's GRID.

The tiles become slices. Where they lie is stated in private elements: by Siemens the number of tiles and the direction
in which they follow each other, by UIH the place of each.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pydicom

from stunet.imaging.formats.dicom import slices
from stunet.imaging.formats.dicom.csa import read_csa
from stunet.imaging.formats.dicom.find import Source
from stunet.imaging.formats.dicom.slices import TILINGS, Plane, Slice, Tile

PARALLEL = 0.999
"""Siemens' direction of the slices is along the normal of the image, up to this cosine."""

_SIEMENS, _SIEMENS_CREATOR = 0x0029, "SIEMENS CSA HEADER"
_UIH, _UIH_CREATOR = 0x0065, "Image Private Header"
_UIH_FRAMES = 0x51


@dataclass(frozen=True, eq=False)
class Tiling:
    """How an image is tiled.

    Attributes:
        size: (rows, columns) of a tile.
        planes: where each tile lies, in their order.
    """

    size: tuple[int, int]
    planes: Sequence[Plane]

    @property
    def across(self) -> int:
        """Tiles in a row."""
        return _across(len(self.planes))


def tiling_of(header: pydicom.Dataset, source: Source) -> Tiling:
    """How an image is tiled, by the private elements of its maker.

    Args:
        header: whole, without pixels.
        source: the file, for messages.

    Raises:
        ValueError: elements that are missing, or do not agree with the image.
        KeyError, TypeError, AttributeError, UserError: a damaged header.
    """
    return _mosaic(header, source) if slices.tiling_name(header) == TILINGS["MOSAIC"] else _grid(header, source)


def slices_of_tiles(whole: Slice, tiling: Tiling) -> list[Slice]:
    """One slice for each tile.

    Args:
        whole: the image, as one slice.
        tiling: of it.
    """
    rows, columns = tiling.size
    return [
        replace(
            whole,
            plane=plane,
            size=tiling.size,
            tile=Tile(number // tiling.across * rows, number % tiling.across * columns, whole.size),
            instance=None,
        )
        for number, plane in enumerate(tiling.planes)
    ]


def _across(count: int) -> int:
    return math.isqrt(count - 1) + 1


def _tile_size(header: pydicom.Dataset, count: int, down: int) -> tuple[int, int]:
    """(rows, columns) of one of `count` tiles, of which `down` are below each other."""
    (rows, left_rows), (columns, left_columns) = divmod(header.Rows, down), divmod(header.Columns, _across(count))
    if left_rows or left_columns:
        raise ValueError(f"{count} tiles in {header.Columns}x{header.Rows}")
    return rows, columns


def _mosaic(header: pydicom.Dataset, source: Source) -> Tiling:
    """Siemens': as many tiles below each other as beside each other; the stated place is that of the whole image."""
    csa = read_csa(header.private_block(_SIEMENS, _SIEMENS_CREATOR)[0x10].value)
    count = int(csa["NumberOfImagesInMosaic"][0])
    normal = np.array([float(value) for value in csa["SliceNormalVector"]])
    gap = slices.real(header, "SpacingBetweenSlices", 0)
    if count < 2 or normal.shape != (3,) or gap <= 0:
        raise ValueError(f"{count} slices {gap} mm apart along {normal}")
    rows, columns = _tile_size(header, count, _across(count))
    places = (header.ImagePositionPatient, header.ImageOrientationPatient, header.PixelSpacing)
    whole = slices.plane_of(places, source)
    cosine = float(whole.normal @ normal)
    if abs(abs(cosine) - 1) > 1 - PARALLEL:
        raise ValueError("slices that do not follow each other along the normal")
    row_mm, column_mm = whole.spacing
    # the image keeps the centre of a slice, so that its first pixel lies outside by half of what it is larger
    first = whole.position + whole.row * column_mm * (header.Columns - columns) / 2
    first = first + whole.column * row_mm * (header.Rows - rows) / 2
    step = whole.normal * math.copysign(gap, cosine)
    planes = [replace(whole, position=first + number * step) for number in range(count)]
    return Tiling((rows, columns), planes)


def _grid(header: pydicom.Dataset, source: Source) -> Tiling:
    """UIH's: each tile's place is stated, and there are no empty rows of tiles."""
    frames = header.private_block(_UIH, _UIH_CREATOR)[_UIH_FRAMES].value
    if len(frames) < 2:
        raise ValueError(f"{len(frames)} tiles")
    size = _tile_size(header, len(frames), -(-len(frames) // _across(len(frames))))
    directions, spacing = header.ImageOrientationPatient, header.PixelSpacing
    planes = [slices.plane_of((frame.ImagePositionPatient, directions, spacing), source) for frame in frames]
    return Tiling(size, planes)
