"""nnU-Net's loss where a batch is spread over ranks: its mean over the ranks is the loss of the whole batch."""

from typing import Any, cast

import torch
import torch.distributed as dist
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn


def spread_over_ranks(loss: nn.Module) -> None:
    """Make the mean over ranks of nnU-Net's loss, and so of its gradients, what one rank would get from all images.

    Two of its parts are no means over images: the Dice of a whole batch (`batch_dice`), whose sums nnU-Net itself can
    gather, and the cross-entropy beside an ignore label, a mean over the annotated voxels, of which each rank has
    another number: there each rank's cross-entropy counts by its share of them. The weights of deep supervision stay
    those of one rank (for DDP nnU-Net would give the deepest head 1e-6 instead of 0).

    Args:
        loss: what nnU-Net builds for one rank, with deep supervision or without; it is changed.
    """
    for module in loss.modules():
        if isinstance(module, MemoryEfficientSoftDiceLoss):
            module.ddp = True
        elif isinstance(module, DC_and_CE_loss | DC_and_BCE_loss) and _has_ignore_label(module):
            module.register_forward_pre_hook(_count_by_annotated_voxels)


def _has_ignore_label(loss: nn.Module) -> bool:
    if isinstance(loss, DC_and_CE_loss):
        return loss.ignore_label is not None
    return bool(loss.use_ignore_label)


def _count_by_annotated_voxels(loss: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Before each forward pass: the cross-entropy's weight is this rank's annotated voxels over the ranks' mean."""
    _, target = arguments
    here = _annotated_voxels(loss, target).double()
    mean = here.clone()
    dist.all_reduce(mean)
    mean = mean / dist.get_world_size()
    loss.weight_ce = float(here / mean) if mean > 0 else 0.0  # type: ignore[assignment]


def _annotated_voxels(loss: nn.Module, target_BKZYX: torch.Tensor) -> torch.Tensor:
    """Their number; of regions, the last channel marks the voxels to ignore."""
    if isinstance(loss, DC_and_CE_loss):
        return cast(torch.Tensor, target_BKZYX != loss.ignore_label).sum()
    return (target_BKZYX[:, -1] == 0).sum()
