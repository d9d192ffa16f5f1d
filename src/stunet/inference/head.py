"""The last layer: from features to logits, and from logits to labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import nn

CHUNK_BYTES = 2**20
"""Logits in memory at one time on a CPU, for any number of classes. They fit the CPU's cache, and their memory is
reused: allocating it for each part took twice as long."""

GPU_CHUNK_BYTES = 2**28
"""The same on a GPU, where each part has the overhead of kernel launches: a plane of 512 x 512 voxels with 105 classes
is one part. Not measured."""


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
        """Input features."""
        return self.weight.shape[1]

    @property
    def chunk(self) -> int:
        """Voxels whose logits fill `CHUNK_BYTES`, or on a GPU `GPU_CHUNK_BYTES`."""
        size = CHUNK_BYTES if self.weight.device.type == "cpu" else GPU_CHUNK_BYTES
        return max(1, size // (4 * max(self.num_classes, self.num_features)))

    def logits(self, features_MF: torch.Tensor, out_MK: torch.Tensor | None = None) -> torch.Tensor:
        """The logits (M, K) of a list of voxels, written to `out_MK` if given."""
        return torch.addmm(self.bias, features_MF, self.weight.T, out=out_MK)

    def labels(self, features_MF: torch.Tensor) -> torch.Tensor:
        """The labels of a list of voxels, see `chosen`; int16 (M,)."""
        labels = torch.empty(len(features_MF), dtype=torch.int16, device=features_MF.device)
        logits_MK = features_MF.new_empty((min(self.chunk, len(features_MF)), self.num_classes))
        for part, result in zip(features_MF.split(self.chunk), labels.split(self.chunk), strict=True):
            result.copy_(self.chosen(self.logits(part, logits_MK[: len(part)])))
        return labels

    def labels_and_leads(self, features_MF: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The labels of a list of voxels, int16 (M,), and their leads less what rounding may take off, float32 (M,)."""
        labels_M = torch.empty(len(features_MF), dtype=torch.int16, device=features_MF.device)
        leads_M = features_MF.new_empty(len(features_MF))
        parts = (whole.split(self.chunk) for whole in (features_MF, labels_M, leads_M))
        logits_MK = features_MF.new_empty((min(self.chunk, len(features_MF)), self.num_classes))
        for features, labels, leads in zip(*parts, strict=True):
            logits = self.logits(features, logits_MK[: len(features)])
            labels.copy_(chosen := self.chosen(logits))
            torch.sub(self.leads(logits, chosen), self._rounding(features), out=leads)
        return labels_M, leads_M

    def leads(self, logits_MK: torch.Tensor, chosen_M: torch.Tensor) -> torch.Tensor:
        """How far the highest logit leads over the second; float32 (M,). The highest is overwritten."""
        highest_M = logits_MK.gather(1, chosen_M[:, None])[:, 0]
        return highest_M - logits_MK.scatter_(1, chosen_M[:, None], -torch.inf).amax(dim=1)

    @cached_property
    def slope(self) -> float:
        """The most that a lead can change where features move by 1, in Euclidean distance."""
        return float(torch.cdist(self.weight.double(), self.weight.double()).amax())

    def _rounding(self, features_MF: torch.Tensor) -> torch.Tensor:
        """Four times what rounding can change in a logit; float32 (M,)."""
        weight, bias = self._largest
        unit = torch.finfo(torch.float32).eps / 2
        return 4 * self.num_features * unit * (torch.linalg.vector_norm(features_MF, dim=1) * weight + bias)

    @cached_property
    def _largest(self) -> tuple[float, float]:
        """The Euclidean length of the longest row of the weight, and the largest bias."""
        return float(torch.linalg.vector_norm(self.weight, dim=1).amax()), float(self.bias.abs().amax())

    def chosen(self, logits_MK: torch.Tensor) -> torch.Tensor:
        """The class with the highest logit, or the first of equal ones; int64 (M,)."""
        if logits_MK.device.type == "cpu":  # numpy is three times faster
            return torch.from_numpy(logits_MK.numpy().argmax(axis=1))
        return logits_MK.argmax(dim=1)

    def probabilities(self, logits_MK: torch.Tensor, labels: Sequence[int]) -> torch.Tensor:
        """The probabilities (M, len(labels)) of some classes: the softmax over all classes."""
        return logits_MK.softmax(dim=1)[:, list(labels)]


@dataclass(frozen=True, eq=False)
class RegionHead(LinearHead):
    """A head with one output for each region; regions overlap.

    nnU-Net writes regions into the label map in order, wherever their probability is above one half. So a voxel's label
    is that of the last such region, or 0 if there is none.

    Attributes:
        painted: the label of each region, in the order of the outputs.
    """

    painted: tuple[int, ...]

    def chosen(self, logits_MK: torch.Tensor) -> torch.Tensor:
        """The label of the last region whose probability is above one half, or 0; int64 (M,)."""
        numbers = torch.arange(1, self.num_classes + 1, device=logits_MK.device)
        last = ((logits_MK.sigmoid() > 0.5) * numbers).amax(dim=1)
        return torch.tensor([0, *self.painted], device=logits_MK.device)[last]

    def leads(self, logits_MK: torch.Tensor, chosen_M: torch.Tensor) -> torch.Tensor:
        """How far the nearest logit is from 0, where a region begins or ends; float32 (M,)."""
        return logits_MK.abs().amin(dim=1)

    @cached_property
    def slope(self) -> float:
        """The most that a logit can change where features move by 1, in Euclidean distance."""
        return self._largest[0]

    def probabilities(self, logits_MK: torch.Tensor, labels: Sequence[int]) -> torch.Tensor:
        """The independent probabilities (M, len(labels)) of the regions with these labels."""
        return logits_MK[:, [self.painted.index(label) for label in labels]].sigmoid()


def mean_head(heads: Sequence[nn.Conv3d], device: torch.device | str = "cpu") -> LinearHead:
    """Join the heads of several networks: from their concatenated features to their mean logits.

    Args:
        heads: 1x1x1 convolutions with the same number of classes.
        device: device of the new head.
    """
    weights = [head.weight.detach().flatten(1).to(device) for head in heads]
    biases = [head.weight.new_zeros(head.out_channels) if head.bias is None else head.bias.detach() for head in heads]
    return LinearHead(torch.cat(weights, dim=1) / len(heads), torch.stack(biases).to(device).mean(dim=0))


def identity_head(num_classes: int, device: torch.device | str = "cpu") -> LinearHead:
    """The head for features that already are logits."""
    return LinearHead(torch.eye(num_classes, device=device), torch.zeros(num_classes, device=device))
