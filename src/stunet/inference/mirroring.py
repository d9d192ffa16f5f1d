"""Test-time augmentation: the mean over mirrored copies of a window (nnU-Net's `use_mirroring`)."""

from collections.abc import Sequence
from itertools import combinations

import torch

from stunet.inference.backends.base import Backend


def mirrored_axes(axes: Sequence[int]) -> list[tuple[int, ...]]:
    """Every set of axes that can be mirrored together, the empty one first.

    >>> mirrored_axes((0, 2))
    [(), (0,), (2,), (0, 2)]
    """
    return [chosen for number in range(len(axes) + 1) for chosen in combinations(axes, number)]


@torch.inference_mode()
def run_mirrored(backend: Backend, windows_BCZYX: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """Mean features (B, Z, Y, X, F) over all mirrored copies, each turned back; float32 where there is more than one.

    Args:
        backend: what runs the network.
        windows_BCZYX: float32.
        axes: which of 0, 1, 2 (Z, Y, X) are mirrored; with none this is one plain run.
    """
    first, *others = mirrored_axes(axes)
    if not others:
        return _run_flipped(backend, windows_BCZYX, first)
    total = _run_flipped(backend, windows_BCZYX, first).to(torch.float32, copy=True)
    for chosen in others:
        total += _run_flipped(backend, windows_BCZYX, chosen)
    return total.div_(1 + len(others))


def _run_flipped(backend: Backend, windows_BCZYX: torch.Tensor, axes: Sequence[int]) -> torch.Tensor:
    """One run on mirrored windows, turned back."""
    if not axes:
        return backend.run(windows_BCZYX)
    mirrored = windows_BCZYX.flip([axis + 2 for axis in axes])
    return backend.run(mirrored).flip([axis + 1 for axis in axes])
