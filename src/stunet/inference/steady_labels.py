"""The labels of planes that arrive one after the other, where most voxels keep the label of an earlier plane.

**Features that move little keep their label.** Let r be the features of a voxel with label a, and f others nearby. The
head is affine, so with the inequality of Cauchy and Schwarz

    l_a(f) - l_k(f) = l_a(r) - l_k(r) + (w_a - w_k) (f - r) >= l_a(r) - l_k(r) - |w_a - w_k| |f - r|.

Let the lead of r be l_a(r) - l_k(r) for the second highest class k, and the slope the largest |w_a - w_k| of all
pairs. While |f - r| < lead / slope, no other class reaches class a at f, so its label is a, too. Regions are chosen by
the signs of their logits: their lead is the least |l_k(r)|, and their slope the largest |w_k|.

**Rounding.** A float32 logit is wrong by less than F u (|w| |f| + |b|), where u is the unit roundoff. Four times this
is taken off each lead, for two logits at r and two at f; so the label is the one that f's own logits would give, unless
these are so close that rounding alone decides.

A voxel is compared with the last one of its row and column whose logits were computed. In a CT, 93 % of the voxels need
a distance of F numbers instead of K products of F numbers and the highest of K.
"""

import torch

from stunet.inference.head import LinearHead

LEAST_CLASSES = 16
"""With fewer classes little is gained: for 16 classes of 16 features, logits take 2.6 times as long as distances."""


class SteadyLabels:
    """Labels the planes of one volume, first to last.

    Args:
        head: maps features to logits.
    """

    def __init__(self, head: LinearHead):
        self._head = head
        self._is_plain = head.num_classes < LEAST_CLASSES or head.bias.device.type != "cpu"
        self._ones_F = torch.ones_like(head.weight[0])
        self._features_MF = self._moves_MF = self._labels_M = self._leads_M = torch.empty(0)

    def labels(self, features_YXF: torch.Tensor) -> torch.Tensor:
        """The labels (Y, X) of the next plane; int16."""
        features_MF = features_YXF.flatten(0, 1)
        if self._is_plain:
            labels_M = self._head.labels(features_MF)
        else:
            self._follow(features_MF)
            labels_M = self._labels_M.clone()
        return labels_M.view(features_YXF.shape[:2])

    def _follow(self, features_MF: torch.Tensor) -> None:
        """Compute the logits of the voxels that moved too far; in the first plane, of all."""
        if not len(self._labels_M):
            self._features_MF, self._moves_MF = features_MF.clone(), torch.empty_like(features_MF)
            self._labels_M, self._leads_M = self._head.labels_and_leads(features_MF)
            return
        moves_MF = torch.sub(features_MF, self._features_MF, out=self._moves_MF)
        distances_M = moves_MF.square_().mv(self._ones_F).sqrt_()  # faster than a norm along so short an axis
        is_near = distances_M * self._head.slope < self._leads_M  # False where anything is not a number
        moved = torch.nonzero(~is_near)[:, 0]
        features = features_MF[moved]
        known = self._features_MF, self._labels_M, self._leads_M
        for whole, part in zip(known, (features, *self._head.labels_and_leads(features)), strict=True):
            whole.index_copy_(0, moved, part)
