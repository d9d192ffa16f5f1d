"""The rewritten network computes the features of the original."""

import pytest
import torch

from stunet.networks.fuse import fuse
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet

STRIDES = {
    "published": PUBLISHED_STRIDES,
    "thick slices": ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 2, 1)),
    "threes": ((1, 1, 1), (3, 1, 2), (1, 3, 1), (1, 1, 1), (1, 1, 1), (1, 1, 1)),
}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("name", STRIDES)
def test_equals_the_original(name, depth):
    torch.manual_seed(0)
    network = STUNet(2, 3, width=4, depth=depth, strides=STRIDES[name]).eval().double()
    image = torch.randn(2, 2, *(2 * multiple for multiple in network.window_multiple), dtype=torch.float64)
    with torch.no_grad():
        expected = network.forward_features(image)
        assert (fuse(network)(image) - expected).abs().max() <= 1e-10 * expected.std()


def test_single_precision():
    torch.manual_seed(0)
    network = STUNet(1, 3, width=8, strides=PUBLISHED_STRIDES).eval()
    image = torch.randn(1, 1, 32, 32, 64)
    with torch.no_grad():
        expected = network.forward_features(image)
        assert (fuse(network)(image) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize(
    "changes", [{"upsampling": "trilinear"}, {"upsampling": "transposed"}, {"downsampling": "convolution"}]
)
def test_the_variants_of_table_6(changes):
    torch.manual_seed(0)
    network = STUNet(1, 3, **{"width": 4, "strides": STRIDES["thick slices"], **changes}).eval().double()
    image = torch.randn(1, 1, *(2 * multiple for multiple in network.window_multiple), dtype=torch.float64)
    with torch.no_grad():
        expected = network.forward_features(image)
        assert (fuse(network)(image) - expected).abs().max() <= 1e-10 * expected.std()


def test_the_original_is_left_as_it_was():
    network = STUNet(1, 3, width=4, strides=STRIDES["thick slices"]).eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fuse(network)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[key], before[key]) for key in before)
    assert all(parameter.requires_grad for parameter in network.parameters())
