"""One training step: the gradients of a batch, whole or in parts, and the weight update."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import nn

GRADIENT_CLIP = 12.0
"""nnU-Net's limit for the norm of all gradients together."""

LossTarget = torch.Tensor | Sequence[torch.Tensor]
"""Labels (B, 1, Z, Y, X); with deep supervision, one such tensor per scale."""


def to_device(target: LossTarget, device: torch.device) -> LossTarget:
    """Move the target to the device."""
    if isinstance(target, torch.Tensor):
        return target.to(device, non_blocking=True)
    return [scale.to(device, non_blocking=True) for scale in target]


def parts_of(
    image_BCZYX: torch.Tensor, target: LossTarget, number: int
) -> Iterator[tuple[torch.Tensor, LossTarget, float]]:
    """Split the batch into `number` consecutive parts, as even as possible, each with its share of the images.

    Raises:
        ValueError: more parts than images.
    """
    size = image_BCZYX.shape[0]
    if not 1 <= number <= size:
        raise ValueError(f"a batch of {size} cannot be divided into {number} parts")
    for rows in np.array_split(np.arange(size), number):
        part = slice(int(rows[0]), int(rows[-1]) + 1)
        cut = target[part] if isinstance(target, torch.Tensor) else [scale[part] for scale in target]
        yield image_BCZYX[part], cut, len(rows) / size


def accumulate_gradients(
    loss_of: Callable[[torch.Tensor, LossTarget], torch.Tensor],
    image_BCZYX: torch.Tensor,
    target: LossTarget,
    parts: int = 1,
    scaler: torch.amp.GradScaler | None = None,
    without_exchange: Callable[[], AbstractContextManager] = nullcontext,
) -> torch.Tensor:
    """Add the gradient of the mean loss to each parameter's gradient, one part of the batch at a time.

    A loss that is a mean over images has the same gradient for any number of parts, up to rounding. nnU-Net's is one,
    unless its plan asks for `batch_dice` or its dataset has an ignore label: then it is a mean over the parts.

    Args:
        loss_of: the loss of images and their target.
        image_BCZYX: the batch.
        target: its target.
        parts: number of parts; memory holds the activations of one part.
        scaler: scales the loss so that its gradients fit into float16.
        without_exchange: a context in which processes do not exchange gradients. It is entered for all parts but the
            last, so that gradients are exchanged once per batch.

    Returns:
        The loss of the batch, detached, still on the device.
    """
    total = torch.zeros((), device=image_BCZYX.device)
    for number, (image, part_target, share) in enumerate(parts_of(image_BCZYX, target, parts), start=1):
        with nullcontext() if number == parts else without_exchange():
            loss = loss_of(image, part_target) if parts == 1 else loss_of(image, part_target) * share
            (loss if scaler is None else scaler.scale(loss)).backward()
        total = total + loss.detach()
    return total


def update(network: nn.Module, optimizer: torch.optim.Optimizer, scaler: Any | None = None) -> None:
    """Clip the gradients as nnU-Net does, and step."""
    if scaler is not None:
        scaler.unscale_(optimizer)
    torch.nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_CLIP)
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)
        scaler.update()
