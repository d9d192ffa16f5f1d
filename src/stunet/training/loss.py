"""nnU-Net's loss with class weights, and corrected for several ranks: its mean equals the loss of the whole batch."""

from collections.abc import Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from nnunetv2.training.loss.compound_losses import DC_and_BCE_loss, DC_and_CE_loss
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn

from stunet.errors import UserError


def weigh_classes(loss: nn.Module, weights: Sequence[float], num_classes: int, device: torch.device) -> None:
    """Weight the classes in the cross-entropy of nnU-Net's loss, as torch does. Dice already counts each class once.

    Args:
        loss: built by nnU-Net, with or without deep supervision; changed in place.
        weights: one per class, background first.
        num_classes: of the network, including background.
        device: where the loss is computed.

    Raises:
        UserError: wrong number of weights, or a dataset with regions, each of which has its own cross-entropy.
    """
    weighed = [module for module in loss.modules() if isinstance(module, DC_and_CE_loss)]
    if not weighed:
        raise UserError("--class-weights are for labels that exclude each other; this dataset has regions.")
    if len(weights) != num_classes:
        raise UserError(f"--class-weights has {len(weights)} numbers; the dataset has {num_classes} with background.")
    for module in weighed:
        module.ce.weight = torch.tensor(weights, dtype=torch.get_default_dtype(), device=device)


def spread_over_ranks(loss: nn.Module) -> None:
    """Make the mean of nnU-Net's loss and gradients over ranks equal to that of one rank with all images.

    Two parts of the loss are not means over images. nnU-Net can gather the sums of the batch Dice (`batch_dice`)
    itself. The cross-entropy with class weights or an ignore label is a mean over the weights of the annotated voxels,
    whose sum differs between ranks; each rank's cross-entropy is therefore weighted by its share of that sum. The
    weights of deep supervision stay those of a single rank (with DDP, nnU-Net would give the deepest head 1e-6 instead
    of 0).

    Args:
        loss: built by nnU-Net for one rank, with or without deep supervision; changed in place.
    """
    for module in loss.modules():
        if isinstance(module, MemoryEfficientSoftDiceLoss):
            module.ddp = True
        elif isinstance(module, DC_and_CE_loss | DC_and_BCE_loss) and _is_weighted_mean(module):
            module.register_forward_pre_hook(_count_by_share)


def _is_weighted_mean(loss: nn.Module) -> bool:
    if isinstance(loss, DC_and_CE_loss):
        return loss.ignore_label is not None or loss.ce.weight is not None
    return bool(loss.use_ignore_label)


def _count_by_share(loss: nn.Module, arguments: tuple[Any, ...]) -> None:
    """Before each forward pass, weight the cross-entropy by this rank's voxel weight over the mean of the ranks."""
    _, target = arguments
    here = _weight_of_voxels(loss, target).double()
    mean = here.clone()
    dist.all_reduce(mean)
    mean = mean / dist.get_world_size()
    loss.weight_ce = float(here / mean) if mean > 0 else 0.0  # type: ignore[assignment]


def _weight_of_voxels(loss: nn.Module, target_BKZYX: torch.Tensor) -> torch.Tensor:
    """Total weight of the annotated voxels. For regions, the last channel marks the voxels to ignore."""
    if not isinstance(loss, DC_and_CE_loss):
        return (target_BKZYX[:, -1] == 0).sum()
    annotated = target_BKZYX != loss.ignore_label if loss.ignore_label is not None else torch.ones_like(target_BKZYX)
    if loss.ce.weight is None:
        return cast(torch.Tensor, annotated).sum()
    return loss.ce.weight[target_BKZYX[annotated.bool()].long()].sum()
