"""Activation checkpointing: a training step in less memory, for one more forward pass."""

from typing import cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from stunet.networks.stunet import STUNet


class CheckpointedStage(nn.Sequential):
    """A stage whose blocks keep only their inputs for the backward pass, which computes all else again.

    One block after the other, not the stage at once: while gradients of a stage are worked out, the insides of one of
    its blocks are in memory instead of all three of STU-Net-H.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the plain stage, to the bit; so are the gradients."""
        if not torch.is_grad_enabled():
            return super().forward(x)
        for block in self:
            x = checkpoint(block, x, use_reentrant=False, preserve_rng_state=False)
        return x


def checkpoint_activations(network: STUNet) -> None:
    """Checkpoint each stage of the encoder and of the decoder; the blocks and the keys of the weights stay the same.

    Do it before the network is sharded, compiled or wrapped.
    """
    for part in (network.encoder, network.decoder):
        part.stages = nn.ModuleList(CheckpointedStage(*cast(nn.Sequential, stage)) for stage in part.stages)
