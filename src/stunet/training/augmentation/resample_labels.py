"""Interpolate label maps: each point gets the label with the highest interpolated score.

nnU-Net interpolates a one-hot map for each label in the patch and takes the highest. At any point only the labels of
the surrounding voxels can win. So here those voxels vote, weighted by linear interpolation, and the time does not grow
with the number of labels.
"""

import math
from collections.abc import Sequence
from itertools import product

import torch
from torch.nn.functional import pad

SCORE_SCALE = 1000
"""nnU-Net compares scores times this in float16, so scores within half a thousandth of each other tie."""

MIXED = torch.iinfo(torch.int8).min
"""Marks cells whose corner voxels have different labels. It is not a label."""


def resample_labels(labels: torch.Tensor, grid: torch.Tensor, outside: int) -> torch.Tensor:
    """The label with the highest score at each point. Ties go to the nearest voxel's label, else to the lowest label.

    Args:
        labels: (C, ...) with two or three spatial axes, a signed integer type. Each channel is resampled alike.
        grid: (..., 2 or 3), the points in `grid_sample`'s units (last axis first, align_corners=False).
        outside: the label of everything outside.

    Returns:
        (C, ...), the labels' type, the size of the grid.
    """
    size = labels.shape[1:]
    padded = pad(labels, (1, 1) * len(size), value=outside)  # points beyond are moved onto this border
    positions = [(grid[..., -1 - axis].flatten() + 1).mul_(length).sub_(1).div_(2) for axis, length in enumerate(size)]
    channels = torch.arange(len(labels), device=labels.device)[:, None]
    if labels.device.type == "cpu":
        result = _label_of_cell(padded, channels, positions)
        channel, point = (result == MIXED).nonzero(as_tuple=True)
        result[channel, point] = _vote(padded, channel, [position[point] for position in positions])
    else:  # to select the mixed cells only would wait for the device
        result = _vote(padded, channels, positions)
    return result.view(len(labels), *grid.shape[:-1])


def _label_of_cell(padded: torch.Tensor, channel: torch.Tensor, positions: list[torch.Tensor]) -> torch.Tensor:
    """The common label of all corners around each position, or `MIXED`."""
    lowest = highest = padded
    for axis in range(1, padded.ndim):
        cells = padded.shape[axis] - 1
        lowest = torch.minimum(lowest.narrow(axis, 0, cells), lowest.narrow(axis, 1, cells))
        highest = torch.maximum(highest.narrow(axis, 0, cells), highest.narrow(axis, 1, cells))
    cell = lowest.masked_fill_(lowest != highest, MIXED)
    return _look_up(cell, channel, _offsets(cell, [position.floor() for position in positions]))


def _offsets(volume: torch.Tensor, indices: list[torch.Tensor]) -> list[torch.Tensor]:
    """Flat memory offsets along each axis for integer indices into a volume padded by one voxel.

    Indices outside the volume are clamped to the border.
    """
    return [
        (index + 1).clamp_(0, length - 1).long().mul_(math.prod(volume.shape[axis + 1 :]))
        for axis, (index, length) in enumerate(zip(indices, volume.shape[1:], strict=True), 1)
    ]


def _look_up(volume: torch.Tensor, channel: torch.Tensor, offsets: Sequence[torch.Tensor]) -> torch.Tensor:
    """The labels at the sum of the offsets, broadcast over `channel` and the offsets."""
    return volume.take(sum(offsets, start=channel * math.prod(volume.shape[1:])))


def _vote(padded: torch.Tensor, channel: torch.Tensor, positions: list[torch.Tensor]) -> torch.Tensor:
    """The label that wins among the corners around each position."""
    below = [position.floor() for position in positions]
    sides = zip(_offsets(padded, below), _offsets(padded, [index + 1 for index in below]), strict=True)
    candidates = [_look_up(padded, channel, corner) for corner in product(*sides)]
    nearest = _look_up(padded, channel, _offsets(padded, [position.round() for position in positions]))
    scores = _scores(candidates, _weights([p - b for p, b in zip(positions, below, strict=True)]))
    winner, best = nearest, torch.full_like(scores[0], -1)
    for candidate, score in zip(candidates, scores, strict=True):
        best = torch.where(candidate == nearest, score, best)
    for candidate, score in zip(candidates, scores, strict=True):
        is_lower_tie = (score == best) & (candidate < winner) & (winner != nearest)
        winner = torch.where((score > best) | is_lower_tie, candidate, winner)
        best = torch.maximum(score, best)
    return winner


def _weights(shares: list[torch.Tensor]) -> list[torch.Tensor]:
    """Linear interpolation weights of the corners. The last axis changes fastest.

    Args:
        shares: the fractional position of each point above the lower corner, 0..1, along each axis.
    """
    weights = []
    for corner in product(*([1 - share, share] for share in shares)):
        weight = corner[-1]
        for factor in corner[-2::-1]:
            weight = weight * factor
        weights.append(weight)
    return weights


def _scores(candidates: list[torch.Tensor], weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """For each corner, the total weight of all corners with the same label, rounded as nnU-Net does.

    Weights are summed in corner order, as in `grid_sample`, so that the same ties arise.
    """
    scaled = [weight * SCORE_SCALE for weight in weights]
    scores = [torch.zeros(candidate.shape, device=candidate.device) for candidate in candidates]
    for one, label in enumerate(candidates):
        scores[one] += scaled[one]
        for other in range(one + 1, len(candidates)):
            same = label == candidates[other]
            scores[one] += same * scaled[other]
            scores[other] += same * scaled[one]
    return [score.half() for score in scores]
