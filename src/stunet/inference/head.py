"""The last layer: from features to logits, and from logits to the class with the highest."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

CHUNK_BYTES = 2**20
"""Logits that are in memory at once, however many classes there are. They stay in the processor's cache, and in memory
that is used again and again: new memory for each part took twice as long."""


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
        """Voxels whose logits fill `CHUNK_BYTES`."""
        return max(1, CHUNK_BYTES // (4 * max(self.num_classes, self.num_features)))

    def logits(self, features_MF: torch.Tensor, out_MK: torch.Tensor | None = None) -> torch.Tensor:
        """The logits (M, K) of a list of voxels, in `out_MK` where it is given."""
        return torch.addmm(self.bias, features_MF, self.weight.T, out=out_MK)

    def labels(self, features_MF: torch.Tensor) -> torch.Tensor:
        """The class with the highest logit, the first of equals, of a list of voxels; int16 (M,)."""
        labels = torch.empty(len(features_MF), dtype=torch.int16, device=features_MF.device)
        logits_MK = features_MF.new_empty((min(self.chunk, len(features_MF)), self.num_classes))
        for part, result in zip(features_MF.split(self.chunk), labels.split(self.chunk), strict=True):
            logits = self.logits(part, logits_MK[: len(part)])
            if logits.device.type == "cpu":  # numpy is three times faster
                result.copy_(torch.from_numpy(logits.numpy().argmax(axis=1)))
            else:
                result.copy_(logits.argmax(dim=1))
        return labels


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
