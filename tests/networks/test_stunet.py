"""STU-Net compared with an independent forward pass, written from the description of the published weights."""

import pytest
import torch
from torch.nn import functional as F

from stunet.networks.registry import build_network
from stunet.networks.stunet import (
    ISOTROPIC_STRIDES,
    PUBLISHED_STRIDES,
    SIZES,
    STUNet,
    features_per_stage,
    six_strides,
)
from stunet.weights.checkpoint import to_official_names


def independent_block(weights: dict, prefix: str, x: torch.Tensor, stride) -> torch.Tensor:
    """conv(stride) - IN - LeakyReLU - conv - IN - add shortcut - LeakyReLU, from plain functions."""

    def conv(name, x, **options):
        return F.conv3d(x, weights[f"{prefix}.{name}.weight"], weights[f"{prefix}.{name}.bias"], **options)

    def norm(name, x):
        mean = x.mean((2, 3, 4), keepdim=True)
        variance = ((x - mean) ** 2).mean((2, 3, 4), keepdim=True)
        shape = (1, -1, 1, 1, 1)
        y = (x - mean) / torch.sqrt(variance + 1e-5)
        return y * weights[f"{prefix}.{name}.weight"].view(shape) + weights[f"{prefix}.{name}.bias"].view(shape)

    y = norm("norm1", conv("conv1", x, stride=stride, padding=1))
    y = torch.where(y > 0, y, 0.01 * y)
    y = norm("norm2", conv("conv2", y, padding=1))
    has_shortcut = f"{prefix}.conv3.weight" in weights
    y = y + (conv("conv3", x, stride=stride) if has_shortcut else x)
    return torch.where(y > 0, y, 0.01 * y)


def independent_forward(weights: dict, image: torch.Tensor, strides, depth: int) -> list[torch.Tensor]:
    """The whole network on a state dict with the official key names; logits, highest resolution first."""
    skips, x = [], image
    for stage, stride in enumerate(strides):
        for block in range(depth):
            x = independent_block(weights, f"conv_blocks_context.{stage}.{block}", x, stride if block == 0 else 1)
        skips.append(x)
    outputs = []
    for u, stride in enumerate(reversed(strides[1:])):
        for axis, factor in enumerate(stride):
            x = x.repeat_interleave(factor, dim=axis + 2)
        name = f"upsample_layers.{u}.conv"
        x = F.conv3d(x, weights[f"{name}.weight"], weights[f"{name}.bias"])
        x = torch.cat([x, skips[4 - u]], dim=1)
        for block in range(depth):
            x = independent_block(weights, f"conv_blocks_localization.{u}.{block}", x, 1)
        outputs.append(F.conv3d(x, weights[f"seg_outputs.{u}.weight"], weights[f"seg_outputs.{u}.bias"]))
    return outputs[::-1]


def official_weights(network: STUNet) -> dict:
    return to_official_names(network.state_dict())


@pytest.mark.parametrize(("size", "edge"), [("small", 64), ("tiny", 32)])
def test_logits_agree_with_an_independent_forward_of_the_published_strides(size, edge):
    torch.manual_seed(0)
    network = build_network(
        size, input_channels=1, num_classes=105, strides=PUBLISHED_STRIDES, deep_supervision=True
    ).eval()
    image = torch.randn(1, 1, edge, edge, edge)
    with torch.no_grad():
        ours = network(image)
        theirs = independent_forward(official_weights(network), image, PUBLISHED_STRIDES, depth=1)
    assert [tuple(x.shape) for x in ours] == [tuple(x.shape) for x in theirs]
    for a, b in zip(ours, theirs, strict=True):
        difference = float((a - b).abs().max() / b.abs().max())
        print(f"{size}: largest relative difference {difference:.1e} at {tuple(b.shape[2:])}")
        assert difference < 1e-5


def test_depth_three_agrees_with_the_independent_forward():
    torch.manual_seed(1)
    strides = six_strides([(1, 1, 1), (2, 2, 2), (1, 2, 2), (2, 2, 1)])
    network = STUNet(2, 4, width=4, depth=3, strides=strides, deep_supervision=True).double().eval()
    image = torch.randn(2, 2, 16, 24, 16, dtype=torch.float64)
    with torch.no_grad():
        ours = network(image)
        theirs = independent_forward(official_weights(network), image, network.strides, depth=3)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_wrong_strides_load_without_a_complaint_and_answer_otherwise():
    """Wrong strides fail silently, because the weights do not contain them."""
    torch.manual_seed(0)
    published = STUNet(1, 3, 4, strides=PUBLISHED_STRIDES).eval()
    isotropic = STUNet(1, 3, 4, strides=ISOTROPIC_STRIDES).eval()
    isotropic.load_state_dict(published.state_dict())
    image = torch.randn(1, 1, 64, 64, 64)
    with torch.no_grad():
        assert (published(image) - isotropic(image)).abs().max() > 0.01


@pytest.mark.parametrize("upsampling", ["nearest", "trilinear", "transposed"])
def test_evaluation_answers_as_training_does(upsampling):
    torch.manual_seed(0)
    network = STUNet(1, 5, 8, upsampling=upsampling)
    image = torch.randn(1, 1, 32, 64, 32)
    with torch.no_grad():
        in_training = network.train()(image)
        in_evaluation = network.eval()(image)
    torch.testing.assert_close(in_evaluation, in_training, atol=1e-5, rtol=1e-5)


def test_convolution_before_nearest_upsampling_is_equal_to_the_bit():
    """Each output voxel of a 1x1x1 convolution is one dot product, so the order of the operations does not matter."""
    torch.manual_seed(0)
    x = torch.randn(1, 64, 8, 8, 8)
    convolution = torch.nn.Conv3d(64, 32, 1).double()
    with torch.no_grad():
        after = convolution(F.interpolate(x.double(), scale_factor=2))
        before = F.interpolate(convolution(x.double()), scale_factor=2)
    torch.testing.assert_close(before, after, atol=1e-14, rtol=0)


def test_unused_heads_are_not_computed():
    network = STUNet(1, 3, 4).eval()
    called = []
    for u, head in enumerate(network.decoder.seg_layers):
        head.register_forward_hook(lambda *_, u=u: called.append(u))
    network(torch.zeros(1, 1, 32, 32, 64))
    assert called == [4]


def test_nnunet_switches_deep_supervision_through_the_decoder():
    network = STUNet(1, 3, 4)
    network.decoder.deep_supervision = True
    shapes = [tuple(x.shape[2:]) for x in network(torch.zeros(1, 1, 64, 64, 64))]
    assert shapes == [(64,) * 3, (32,) * 3, (16,) * 3, (8,) * 3, (4,) * 3]


def test_features_and_head_make_the_logits():
    torch.manual_seed(0)
    network = STUNet(1, 3, 4).eval()
    image = torch.randn(1, 1, 64, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.head(network.forward_features(image)), network(image))


def test_a_window_that_the_strides_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="divisible"):
        STUNet(1, 3, 4)(torch.zeros(1, 1, 40, 32, 32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"strides": [(2, 2, 2)] * 5},
        {"strides": [(2, 2, 2)] * 6},
        {"upsampling": "cubic"},
        {"downsampling": "max"},
        {"num_classes": 0},
    ],
)
def test_arguments_that_no_stunet_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match=r"an STU-Net|upsampling|downsampling|1 or more"):
        STUNet(**{"input_channels": 1, "num_classes": 2, **wrong})


def test_sizes_have_the_widths_and_depths_of_table_2():
    table = {
        "small": (1, (16, 32, 64, 128, 256, 256)),
        "base": (1, (32, 64, 128, 256, 512, 512)),
        "large": (2, (64, 128, 256, 512, 1024, 1024)),
        "huge": (3, (96, 192, 384, 768, 1536, 1536)),
    }
    for name, (depth, features) in table.items():
        size = SIZES[name]
        assert size.depth == depth
        assert features_per_stage(size.width) == features


@pytest.mark.parametrize(("given", "fitted"), [(4, 4), (6, 6), (8, 6)])
def test_strides_of_a_plan_are_padded_or_cut(given, fitted):
    strides = six_strides([(1, 1, 1)] + [(2, 2, 2)] * (given - 1))
    assert strides == ((1, 1, 1),) + ((2, 2, 2),) * (fitted - 1) + ((1, 1, 1),) * (6 - fitted)
