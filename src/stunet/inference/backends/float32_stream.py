"""The parts of an STU-Net that torch computes in float32 when bfloat16 or float16 is requested.

These are the decoder's residual stream, for the reason given in `openvino_precision`: its values reach 5,000, where
neighbouring numbers are 4 apart in float16 and 32 in bfloat16; float16 ends at 65,504. The 3x3x3 convolutions, nearly
all of the work, use rounded values, which does no harm because a norm follows each.
"""

import torch
from torch import nn

from stunet.networks.blocks import ResidualBlock
from stunet.networks.network import Network
from stunet.networks.stunet import STUNet


class Float32(nn.Module):
    """A module that computes in float32 even if autocasting is on."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the module to x of any type."""
        with torch.autocast(x.device.type, enabled=False):
            return self.module(x.float())


def keep_stream_in_float32(network: Network) -> list[nn.Module]:
    """Wrap the modules of the decoder's stream in place. Networks other than STU-Net have no such stream.

    Returns:
        The wrapped modules, whose weights must stay in float32.
    """
    if not isinstance(network, STUNet):
        return []
    wrapped: list[nn.Module] = []
    for upsample in network.decoder.upsamples:
        wrapped.append(_wrap(upsample, "conv"))
    for block in network.decoder.stages.modules():
        if isinstance(block, ResidualBlock):
            wrapped += [_wrap(block, "norm2"), _wrap(block, "shortcut")]
    return wrapped


def _wrap(owner: nn.Module, name: str) -> nn.Module:
    wrapped = Float32(getattr(owner, name))
    setattr(owner, name, wrapped)
    return wrapped
