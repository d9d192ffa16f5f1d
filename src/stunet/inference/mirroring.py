"""Test-time augmentation: the mean over mirrored copies of a window (nnU-Net's `use_mirroring`)."""

from collections.abc import Sequence
from itertools import combinations

import torch

from stunet.inference.backends.base import Backend


def mirrored_axes(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """All sets of axes that can be mirrored together, the empty set first.

    >>> mirrored_axes((0, 2))
    [(), (0,), (2,), (0, 2)]
    """
    return [chosen for number in range(len(axes) + 1) for chosen in combinations(axes, number)]


@torch.inference_mode()
def run_mirrored(backend: Backend, windows_BCZYX: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Mean features (B, Z, Y, X, F) over all mirrored copies, each flipped back; float32 if there is more than one.

    The axes are some of 0, 1, 2 (Z, Y, X); without axes, the backend runs once. Windows are float32.
    """
    _, *mirrored = mirrored_axes(axes)
    total_BZYXF = backend.run(windows_BCZYX)
    if not mirrored:
        return total_BZYXF
    total_BZYXF = total_BZYXF.to(torch.float32, copy=True)  # the next run may overwrite it
    for chosen in mirrored:
        flipped_BCZYX = windows_BCZYX.flip([axis + 2 for axis in chosen])
        total_BZYXF += backend.run(flipped_BCZYX).flip([axis + 1 for axis in chosen])
    return total_BZYXF.div_(1 + len(mirrored))
