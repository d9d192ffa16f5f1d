"""Activation checkpointing: what a stage computed is computed again when its gradient is due, instead of being kept."""

from functools import partial

from torch.utils.checkpoint import checkpoint

from stunet.networks.stunet import STUNet


def checkpoint_activations(network: STUNet) -> None:
    """Keep only what goes into each stage of encoder and decoder, and recompute the rest in the backward pass.

    Gradients stay the same, and so do the names of the parameters. A second call changes nothing.
    """
    for stage in (*network.encoder.stages, *network.decoder.stages):
        if "forward" not in vars(stage):
            stage.forward = partial(checkpoint, stage.forward, use_reentrant=False, preserve_rng_state=False)
