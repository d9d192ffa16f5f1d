"""See where structures are, in windows side by side, without running all of them.

These windows are *tiles*: as few of the full run's windows as cover the image, each of them responsible for the voxels
that are nearer to its centre than to any other's. Their features are kept for the second pass. For structures in one
piece, such as organs, the tiles along the middle line of the scan run first. Then those run that come within
`MARGIN_MM` of what was seen, until there are no more: a structure is followed from tile to tile. If too little was seen
of one (`LEAST_MM3`), all remaining tiles run. A part can get lost that is in no tile of the middle line, and far from
everything else that was seen of its structure. For other structures, such as lesions, all tiles run.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise, product
from math import ceil, prod

import numpy as np
import torch

from stunet.imaging.box import Box, nonzero_box
from stunet.imaging.preprocess import GridRecord
from stunet.inference.accumulator import are_finite
from stunet.inference.backends.base import Backend
from stunet.inference.batching import window_batches
from stunet.inference.known_features import KnownFeatures
from stunet.inference.labelling import Chooser
from stunet.inference.mirroring import run_mirrored
from stunet.inference.sliding import NotFiniteError, PlaneSource, Slab, Sliding
from stunet.inference.steady_labels import SteadyLabels
from stunet.inference.windows import Windows, touches

MARGIN_MM = 20.0
"""Margin around what was seen of a structure; a window sees least at its border."""

LEAST_MM3 = 1000.0
"""A structure of which less was seen is looked for everywhere: a speck may be a mistake."""

MIDDLE_SHARE = 0.25
"""Half the width of the middle line, as a fraction of a window. If two tiles share the middle, both run."""


@dataclass(frozen=True)
class Tile:
    """A window of the first pass.

    Attributes:
        start: its first voxel (Z, Y, X) in the padded image.
        cell: the voxels of the image for which it is responsible.
    """

    start: tuple[int, int, int]
    cell: Box


def tiles_of(windows: Windows, image_size: Sequence[int], window_size: Sequence[int]) -> list[Tile]:
    """Some of the windows, as few as cover the image; their cells cover each voxel of it once.

    >>> print(*(tile.cell[2] for tile in tiles_of(Windows((4, 4, 9), (4, 4, 4)), (4, 4, 9), (4, 4, 4))))
    (0, 3) (3, 6) (6, 9)
    """
    cells: list[dict[int, tuple[int, int]]] = []
    for axis, (n, size) in enumerate(zip(image_size, window_size, strict=True)):
        along = _side_by_side(sorted({start[axis] for start in windows}), size)
        middles = [(one + other + size) // 2 for one, other in pairwise(along)]
        cells.append(dict(zip(along, pairwise([0, *middles, n]), strict=True)))
    cells_z, cells_y, cells_x = cells
    return [Tile((z, y, x), (cells_z[z], cells_y[y], cells_x[x])) for z, y, x in product(*cells)]


def _side_by_side(starts: Sequence[int], size: int) -> list[int]:
    """The first of the windows along an axis, and from each the farthest next one without a gap, up to the last.

    >>> _side_by_side([0, 48, 97, 145], 128)
    [0, 97, 145]
    """
    chosen = [starts[0]]
    while chosen[-1] < starts[-1]:
        chosen.append(max(start for start in starts if start <= chosen[-1] + size))
    return chosen


def all_boxes(boxes: Mapping[int, Sequence[Box]]) -> list[Box]:
    """The boxes of all labels."""
    return [box for of_label in boxes.values() for box in of_label]


class FirstPass:
    """Runs tiles of an image, and notes where they see the requested structures.

    Args:
        image: the scan on the network's grid.
        record: of that grid.
        backend: runs the network.
        sliding: settings of the full run.
        chooser: chooses among the requested structures.
        known: where features are kept.

    Attributes:
        windows: those of the full run.
        tiles: those that can run.
        runs: number of those that did.
        boxes: label to boxes around what was seen of it, one for each tile, with `MARGIN_MM`.
    """

    def __init__(
        self,
        image: PlaneSource,
        record: GridRecord,
        backend: Backend,
        sliding: Sliding,
        chooser: Chooser,
        known: KnownFeatures,
    ):
        self._image, self._record, self._backend, self._chooser = image, record, backend, chooser
        self._sliding, self._known = sliding, known
        self.windows = Windows(record.network_shape, sliding.window_size, sliding.step)
        self.tiles = tiles_of(self.windows, record.network_shape, sliding.window_size)
        self.runs = 0
        self.boxes: dict[int, list[Box]] = defaultdict(list)
        self._voxels: dict[int, int] = defaultdict(int)

    def see(self, asked: Collection[int], are_whole: bool, on_tile: Callable[[], None]) -> None:
        """Run the tiles along the middle, those near what was seen, and where too little was seen, all others.

        Args:
            asked: labels of the requested structures.
            are_whole: whether each of them is in one piece; otherwise all tiles run.
            on_tile: called after each window.

        Raises:
            UserError: there is not enough memory for one window.
            NotFiniteError: features are NaN or infinite.
        """
        begin = self._middle_line if are_whole else self._whole_image
        for tiles in self._turns(begin, asked):
            for tile, features_ZYXF in self._features(tiles):
                self._note(tile, features_ZYXF)
                self._known.keep(tile.start, features_ZYXF)
                self.runs += 1
                on_tile()

    def _turns(self, begin: Box, asked: Collection[int]) -> Iterator[list[Tile]]:
        """The tiles that run next, after those before have run."""
        left, near = self.tiles, [begin]
        while left:
            turn = [tile for tile in left if _reaches(tile, near)]
            if not turn:
                if self._saw_enough_of(asked):
                    return
                turn = left
            yield turn
            left = [tile for tile in left if tile not in turn]
            near = all_boxes(self.boxes)

    def _saw_enough_of(self, asked: Collection[int]) -> bool:
        return all(self._voxels[label] * self._voxel_mm3 >= LEAST_MM3 for label in asked)

    @property
    def _middle_line(self) -> Box:
        """The middle of the rows and of the columns, through all planes."""
        depth, *sizes = self._record.network_shape
        widths = (round(MIDDLE_SHARE * size) for size in self._sliding.window_size[1:])
        y, x = ((n // 2 - width, n // 2 + width) for n, width in zip(sizes, widths, strict=True))
        return (0, depth), y, x

    @property
    def _whole_image(self) -> Box:
        z, y, x = ((0, n) for n in self._record.network_shape)
        return z, y, x

    @property
    def _voxel_mm3(self) -> float:
        """The volume of a voxel of the network's grid."""
        scan_mm3 = prod(self._record.cropped_spacing) * prod(self._record.cropped_shape)
        return scan_mm3 / prod(self._record.network_shape)

    def _features(self, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, torch.Tensor]]:
        """Each tile with the features (Z, Y, X, F) of its window."""
        slab, (depth, _, _) = Slab(self._image, self.windows), self._sliding.window_size
        run = partial(run_mirrored, self._backend, axes=self._sliding.mirror_axes)
        batches = window_batches(run, self._backend, self._sliding.batch_size)
        for z, row in groupby(tiles, key=lambda tile: tile.start[0]):
            slab.move_to(z, z + depth)
            of_row = list(row)
            windows = [slab.window(tile.start[1:], self._sliding.window_size) for tile in of_row]
            for tile, window, features_ZYXF in zip(of_row, windows, batches.features(windows), strict=True):
                if not are_finite(features_ZYXF):
                    _, y, x = tile.start
                    raise NotFiniteError(window, (z - slab.before[0], y - slab.before[1], x - slab.before[2]))
                yield tile, features_ZYXF

    def _note(self, tile: Tile, features_ZYXF: torch.Tensor) -> None:
        """Note what is in the tile's cell."""
        pads = (before for before, _ in self.windows.padding)
        offsets = [start - before for start, before in zip(tile.start, pads, strict=True)]
        here = tuple(slice(low - at, high - at) for (low, high), at in zip(tile.cell, offsets, strict=True))
        steady = SteadyLabels(self._backend.head)
        planes = [self._chooser.kept(steady.labels(plane_YXF.float())) for plane_YXF in features_ZYXF[here]]
        labels_ZYX = torch.stack(planes).cpu().numpy()
        for label in np.flatnonzero(np.bincount(labels_ZYX.ravel())[1:]) + 1:
            is_label = labels_ZYX == label
            self._voxels[int(label)] += int(is_label.sum())
            z, y, x = (
                (low + start, low + stop)
                for (low, _), (start, stop) in zip(tile.cell, nonzero_box(is_label[None]), strict=True)
            )
            self.boxes[int(label)].append(_enlarged((z, y, x), self._record))


def _reaches(tile: Tile, boxes: Iterable[Box]) -> bool:
    """Whether one of the boxes has voxels for which the tile is responsible."""
    lows = [low for low, _ in tile.cell]
    return touches(lows, [high - low for low, high in tile.cell], boxes)


def _enlarged(box: Box, record: GridRecord) -> Box:
    """A box with `MARGIN_MM` on each side, within the grid."""
    sizes = zip(box, record.network_shape, record.cropped_shape, record.cropped_spacing, strict=True)
    margins = [(ranges, size, ceil(MARGIN_MM / (mm * voxels / size))) for ranges, size, voxels, mm in sizes]
    z, y, x = ((max(0, start - margin), min(size, stop + margin)) for (start, stop), size, margin in margins)
    return z, y, x
