"""Count a network's parameters and multiply-accumulates, and what the paper calls "FLOPs" (neither of the two).

Everything is counted on the meta device, where tensors have shapes but no data, so even `huge` needs no memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from stunet.networks.network import Network, twin_of, without_weights
from stunet.networks.registry import build, find_class, find_network
from stunet.plans.network_spec import NetworkSpec

Patch = tuple[int, int, int]

TABLE_PATCH: Patch = (128, 128, 128)
"""The patch (Z, Y, X) of the paper's tables."""

TABLE_CHANNELS = 1
"""Image channels in the paper's tables: CT."""

TABLE_CLASSES = 105
"""Classes in the paper's tables: TotalSegmentator's 104 and background."""


@dataclass(frozen=True)
class NetworkCost:
    """The cost of one patch.

    Attributes:
        parameters: number of parameters, all heads included.
        macs: multiply-accumulates of a training forward pass, in the published order of operations, with all heads.
        inference_macs: multiply-accumulates at inference: 1x1x1 before nearest up-sampling, last head only.
        torchinfo_mult_adds: `torchinfo.summary(...).total_mult_adds` of a training forward pass. This is the column
            "FLOPs" of the paper's tables. It counts a transposed convolution at its output's size, and adds the
            parameters of biases and norms.
    """

    parameters: int
    macs: int
    inference_macs: int
    torchinfo_mult_adds: int


def network_cost(spec: NetworkSpec, patch: Sequence[int] = TABLE_PATCH) -> NetworkCost:
    """Count the cost of a network for one patch (Z, Y, X).

    Raises:
        UserError: the network's package is not installed.
        ValueError: the network does not accept this patch size.
    """
    network_class = find_class(spec.kind)
    if "window_size" in network_class.planned_arguments:
        spec = spec.with_arguments(window_size=list(patch))
    with without_weights():
        network = build(spec, deep_supervision=network_class.supervises_deeply)
        image = torch.empty(1, network.input_channels, *patch)
        macs, mult_adds = count_macs(network, image), count_torchinfo_mult_adds(network, image)
        network.eval()
        network.supervise_deeply(False)
        return NetworkCost(count_parameters(network), macs, count_macs(network, image), mult_adds)


def cost_of(
    name: str,
    input_channels: int = TABLE_CHANNELS,
    num_classes: int = TABLE_CLASSES,
    patch: Sequence[int] = TABLE_PATCH,
) -> NetworkCost:
    """Count the cost of a named network, by default as in the paper's tables.

    Args:
        name: one of `stunet.networks.registry.NETWORKS`.
        input_channels: channels of the image.
        num_classes: classes, background included.
        patch: voxels (Z, Y, X).

    Raises:
        UserError, ValueError: as `network_cost`, or the name is unknown.
    """
    named = find_network(name)
    return network_cost(NetworkSpec(named.kind, input_channels, num_classes, named.arguments), patch)


def training_macs(network: Network, patch: Sequence[int]) -> int:
    """Multiply-accumulates of a training forward pass of one patch (Z, Y, X), all heads. The network is not changed.

    Raises:
        ValueError: the network does not accept this patch size.
    """
    twin = twin_of(network, deep_supervision=network.supervises_deeply)
    with without_weights():
        return count_macs(twin, torch.empty(1, network.input_channels, *patch))


def count_parameters(network: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: nn.Module, image_BCZYX: torch.Tensor) -> int:
    """The multiply-accumulates that torch executes for this input."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        network(image_BCZYX)
    return counter.get_total_flops() // 2


def count_torchinfo_mult_adds(network: nn.Module, image_BCZYX: torch.Tensor) -> int:
    """The number that torchinfo calls mult-adds.

    The sum over all leaf layers: a convolution's parameters (bias included) times its output's voxels, or any other
    layer's parameters, times the batch size. In a transformer the batch is that of the attention: images or windows.
    """
    counted: list[int] = []

    def count(module: nn.Module, _: object, output: torch.Tensor) -> None:
        """Record one layer's mult-adds."""
        own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
        is_convolution = isinstance(module, nn.Conv3d | nn.ConvTranspose3d)
        voxels = math.prod(output.shape[2:]) if is_convolution else 1
        counted.append(own * voxels * output.shape[0])

    layers = [module for module in network.modules() if not any(True for _ in module.children())]
    hooks = [layer.register_forward_hook(count) for layer in layers if any(True for _ in layer.parameters())]
    try:
        with torch.no_grad():
            network(image_BCZYX)
    finally:
        for hook in hooks:
            hook.remove()
    return sum(counted)
