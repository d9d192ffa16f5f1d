"""Features of windows that have run, kept on disk, so that these windows need not run again."""

import shutil
import tempfile
from contextlib import suppress

import numpy as np
import torch

from stunet.allocator import memory_limit
from stunet.imaging.paging import release, zeros_in

MOST_BYTES = 8 * 2**30
"""For all windows together: 64 windows of 128x128x128 voxels with 16 features in float32."""

DISK_SHARE, MEMORY_SHARE = 0.5, 0.25
"""At most these shares of the free space and of the machine's memory, because other processes may do the same, and the
folder for temporary files may be in memory."""

Start = tuple[int, int, int]
"""The first voxel (Z, Y, X) of a window, in the padded image."""


class KnownFeatures:
    """The features of windows, each in an unnamed temporary file, in `tempfile`'s folder (set by `TMPDIR`).

    Args:
        most_bytes: for all of them together. Default: `MOST_BYTES`, or less on a small machine.
    """

    def __init__(self, most_bytes: int | None = None):
        self._free = most_bytes
        self._features: dict[Start, torch.Tensor] = {}

    def __contains__(self, start: Start) -> bool:
        return start in self._features

    def keep(self, start: Start, features_ZYXF: torch.Tensor) -> None:
        """Keep a copy of a window's features, if there is space."""
        size = features_ZYXF.numel() * features_ZYXF.element_size()
        with suppress(OSError):  # there is no folder for temporary files, or no space in it
            if self._free is None:
                self._free = _usual_bytes()
            if size > self._free:
                return
            with tempfile.TemporaryFile(prefix="stunet-") as file:
                array = zeros_in(file, (size,), np.uint8)
            kept_ZYXF = torch.from_numpy(array).view(features_ZYXF.dtype).view(features_ZYXF.shape)
            self._features[start] = kept_ZYXF.copy_(features_ZYXF)
            self._free -= size
            release(array)

    def take(self, start: Start) -> torch.Tensor:
        """The features (Z, Y, X, F) of a window, in main memory; they are not kept any longer.

        Raises:
            KeyError: none are kept for this window.
        """
        return self._features.pop(start)


def _usual_bytes() -> int:
    """What features may take here."""
    memory = memory_limit() or MOST_BYTES / MEMORY_SHARE
    free = shutil.disk_usage(tempfile.gettempdir()).free
    return int(min(MOST_BYTES, MEMORY_SHARE * memory, DISK_SHARE * free))
