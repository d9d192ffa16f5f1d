"""The last layer: from features to logits, and from logits to the class with the highest."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

CHUNK_BYTES = 2**20
"""Logits that a CPU has in memory at once, however many classes there are. They stay in the processor's cache, and in
memory that is used again and again: new memory for each part took twice as long."""

GPU_CHUNK_BYTES = 2**28
"""The same on a GPU, where each part costs a start of its kernels: a plane of 512 x 512 voxels with 105 classes is one
part. Not measured."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """logits = weight x features + bias, at each voxel.

    Attributes:
        weight: float32 (K, F).
        bias: float32 (K,).
    """

    weight: torch.Tensor
    bias: torch.Tensor

    @property
    def num_classes(self) -> int:
        """Classes, background included."""
        return len(self.weight)

    @property
    def num_features(self) -> int:
        """Features that it takes."""
        return self.weight.shape[1]

    @property
    def chunk(self) -> int:
        """Voxels whose logits fill `CHUNK_BYTES`, or on a GPU `GPU_CHUNK_BYTES`."""
        size = CHUNK_BYTES if self.weight.device.type == "cpu" else GPU_CHUNK_BYTES
        return max(1, size // (4 * max(self.num_classes, self.num_features)))

    def logits(self, features_MF: torch.Tensor, out_MK: torch.Tensor | None = None) -> torch.Tensor:
        """The logits (M, K) of a list of voxels, in `out_MK` where it is given."""
        return torch.addmm(self.bias, features_MF, self.weight.T, out=out_MK)

    def labels(self, features_MF: torch.Tensor) -> torch.Tensor:
        """The label of each of a list of voxels, see `chosen`; int16 (M,)."""
        labels = torch.empty(len(features_MF), dtype=torch.int16, device=features_MF.device)
        logits_MK = features_MF.new_empty((min(self.chunk, len(features_MF)), self.num_classes))
        for part, result in zip(features_MF.split(self.chunk), labels.split(self.chunk), strict=True):
            result.copy_(self.chosen(self.logits(part, logits_MK[: len(part)])))
        return labels

    def chosen(self, logits_MK: torch.Tensor) -> torch.Tensor:
        """The class with the highest logit, the first of equals; int64 (M,)."""
        if logits_MK.device.type == "cpu":  # numpy is three times faster
            return torch.from_numpy(logits_MK.numpy().argmax(axis=1))
        return logits_MK.argmax(dim=1)

    def probabilities(self, logits_MK: torch.Tensor, labels: Sequence[int]) -> torch.Tensor:
        """The probabilities (M, len(labels)) of some classes: the softmax over all."""
        return logits_MK.softmax(dim=1)[:, list(labels)]


@dataclass(frozen=True, eq=False)
class RegionHead(LinearHead):
    """A head with one output for each region; regions overlap.

    nnU-Net paints one region over the other, in order, wherever its probability is above one half: so a voxel's label
    is that of the last region around it, and 0 in none.

    Attributes:
        painted: the label of each region, in the order of the outputs.
    """

    painted: tuple[int, ...]

    def chosen(self, logits_MK: torch.Tensor) -> torch.Tensor:
        """The label of the last region whose probability is above one half, or 0; int64 (M,)."""
        numbers = torch.arange(1, self.num_classes + 1, device=logits_MK.device)
        last = ((logits_MK.sigmoid() > 0.5) * numbers).amax(dim=1)
        return torch.tensor([0, *self.painted], device=logits_MK.device)[last]

    def probabilities(self, logits_MK: torch.Tensor, labels: Sequence[int]) -> torch.Tensor:
        """The probabilities (M, len(labels)) of the regions with these labels, each by itself."""
        return logits_MK[:, [self.painted.index(label) for label in labels]].sigmoid()


def mean_head(heads: Sequence[nn.Conv3d], device: torch.device | str = "cpu") -> LinearHead:
    """The head on a device whose logits, on the concatenated features of several networks, are the mean of theirs.

    Args:
        heads: 1x1x1 convolutions with the same number of classes.
        device: where the head works.
    """
    weights = [head.weight.detach().flatten(1).to(device) for head in heads]
    biases = [head.weight.new_zeros(head.out_channels) if head.bias is None else head.bias.detach() for head in heads]
    return LinearHead(torch.cat(weights, dim=1) / len(heads), torch.stack(biases).to(device).mean(dim=0))


def identity_head(num_classes: int, device: torch.device | str = "cpu") -> LinearHead:
    """The head for features that are logits already."""
    return LinearHead(torch.eye(num_classes, device=device), torch.zeros(num_classes, device=device))
