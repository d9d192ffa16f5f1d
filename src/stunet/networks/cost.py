"""What a network costs: parameters, multiply-accumulates, and the paper's "FLOPs", which are neither.

Everything is counted on the meta device, where tensors have shapes but no memory, so `huge` costs nothing to inspect.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stunet.networks.stunet import STUNetConfig, build_stunet

Patch = tuple[int, int, int]

TABLE_PATCH: Patch = (128, 128, 128)
"""The patch (Z, Y, X) for which the paper's tables count."""


@dataclass(frozen=True)
class NetworkCost:
    """The cost of one patch.

    Attributes:
        parameters: all heads included.
        macs: multiply-accumulates of a training forward pass: published order of operations, all heads.
        inference_macs: multiply-accumulates at inference: 1x1x1 before nearest up-sampling, the last head alone.
        torchinfo_mult_adds: what `torchinfo.summary(...).total_mult_adds` says of a training forward pass. This is
            the column "FLOPs" of the paper's tables. It counts a transposed convolution at its output's size, and
            adds the parameters of biases and norms.
    """

    parameters: int
    macs: int
    inference_macs: int
    torchinfo_mult_adds: int


def network_cost(config: STUNetConfig, patch: Sequence[int] = TABLE_PATCH) -> NetworkCost:
    """Count the cost of an STU-Net for one patch (Z, Y, X).

    Raises:
        ValueError: a patch that the strides do not divide.
    """
    with torch.device("meta"):
        network = build_stunet(config, deep_supervision=True)
        image = torch.empty(1, config.input_channels, *patch)
    macs, mult_adds = count_macs(network, image), count_torchinfo_mult_adds(network, image)
    network.eval()
    network.decoder.deep_supervision = False
    return NetworkCost(count_parameters(network), macs, count_macs(network, image), mult_adds)


def count_parameters(network: nn.Module) -> int:
    """Trainable numbers of a network."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, image_BCZYX: torch.Tensor) -> int:
    """Multiply-accumulates that torch really executes for this input."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image_BCZYX)
    return counter.get_total_flops() // 2


def count_torchinfo_mult_adds(network: nn.Module, image_BCZYX: torch.Tensor) -> int:
    """The number that torchinfo calls mult-adds.

    For each layer with parameters: a convolution's parameters (bias included) times its output's voxels, any other
    layer's parameters once; times the batch.
    """
    counted: list[int] = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        is_convolution = isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
        voxels = math.prod(output.shape[2:]) if is_convolution else 1
        counted.append(own * voxels * output.shape[0])

    layers = [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]
    hooks = [layer.register_forward_hook(count) for layer in layers]
    try:
        with torch.no_grad():
            network(image_BCZYX)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counted)
