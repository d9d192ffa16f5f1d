"""Our nnU-Net compared with nnU-Net's own class."""

import pytest
import torch
from torch import nn

pytest.importorskip("dynamic_network_architectures")

from dynamic_network_architectures.architectures.unet import PlainConvUNet

from stunet.networks.nnunet import NNUNet

STRIDES = [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 1, 2]]
KERNELS = [[1, 3, 3], [3, 3, 3], [3, 3, 3], [3, 3, 3]]


def nnunets_own(depth: int) -> PlainConvUNet:
    return PlainConvUNet(
        2,
        4,
        [4, 8, 16, 20],
        nn.Conv3d,
        KERNELS,
        STRIDES,
        2 * depth,
        3,
        2 * depth,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        deep_supervision=True,
    )


@pytest.mark.parametrize("depth", [1, 2])
def test_logits_equal_those_of_nnunets_class_once_its_additional_biases_are_zero(depth):
    torch.manual_seed(0)
    theirs = nnunets_own(depth)
    for layer in (*theirs.decoder.transpconvs, *theirs.decoder.seg_layers):
        nn.init.zeros_(layer.bias)
    ours = NNUNet(2, 3, 4, depth, 20, STRIDES, KERNELS, deep_supervision=True)
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if key in ours.state_dict()})
    image = torch.randn(2, 2, 16, 24, 32)
    with torch.no_grad():
        for found, expected in zip(ours(image), theirs(image), strict=True):
            assert torch.equal(found, expected)


def test_biases_that_version_1_does_not_have_are_all_that_differ():
    theirs, ours = nnunets_own(1), NNUNet(2, 3, 4, 1, 20, STRIDES, KERNELS)
    left_out = sum(layer.bias.numel() for layer in (*theirs.decoder.transpconvs, *theirs.decoder.seg_layers))
    assert sum(p.numel() for p in theirs.parameters()) - sum(p.numel() for p in ours.parameters()) == left_out


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth": 0},
        {"strides": [[1, 1, 1]]},
        {"strides": [[2, 2, 2]] * 6},
        {"strides": [[1, 1], [2, 2]]},
        {"kernel_sizes": [[3, 3, 3]]},
    ],
)
def test_arguments_that_no_nnunet_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match="nnU-Net"):
        NNUNet(1, 2, **wrong)
