"""Activation checkpointing: a training step uses less memory and one more forward pass."""

from typing import cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stunet.networks.stunet import STUNet


class CheckpointedStage(nn.Sequential):
    """A stage whose blocks store only their inputs. The backward pass recomputes everything else.

    Blocks are checkpointed one by one, not as a whole stage. While the gradients of a stage are computed, memory holds
    the activations of one block instead of all three of STU-Net-H.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Same output as the plain stage, bit for bit, and same gradients."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        for block in self:
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
        return x


def checkpoint_activations(network: STUNet) -> None:
    """Checkpoint each stage of the encoder and decoder. Blocks and weight keys do not change.

    Call this before the network is sharded, compiled or wrapped.
    """
    for part in (network.encoder, network.decoder):
        part.stages = nn.ModuleList(CheckpointedStage(*cast(nn.Sequential, stage)) for stage in part.stages)
