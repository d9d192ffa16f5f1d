"""Official names are converted to ours and back."""

import re

import pytest
import torch

from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import SIZES
from stunet.weights.checkpoint import to_official_names, to_our_names
from tests.weights.samples import network


@pytest.mark.parametrize("size", ["small", "base", "large", "huge"])
def test_no_key_is_lost_on_the_way_to_official_names_and_back(size):
    with torch.device("meta"):
        ours = build(network_spec(size, 1, 105)).state_dict()
    official = to_official_names(ours)
    blocks = SIZES[size].depth
    assert len(official) == len(ours) == 11 * (8 * blocks + 2) + 5 * 2 + 5 * 2
    prefixes = r"conv_blocks_context|upsample_layers|conv_blocks_localization|seg_outputs"
    assert all(re.fullmatch(rf"({prefixes})\.\d.*\.(weight|bias)", key) for key in official)
    back = to_our_names(official)
    assert list(back) == list(ours)
    assert all(back[key] is ours[key] for key in ours)


def test_shortcut_and_heads_have_the_official_names():
    official = to_official_names(network().state_dict())
    assert official["conv_blocks_context.0.0.conv3.weight"].shape == (8, 1, 1, 1, 1)
    assert official["conv_blocks_localization.4.0.conv3.weight"].shape == (8, 16, 1, 1, 1)
    assert official["seg_outputs.4.weight"].shape == (3, 8, 1, 1, 1)
    assert official["upsample_layers.0.conv.weight"].shape == (128, 128, 1, 1, 1)


def test_wrappers_are_taken_off():
    assert list(to_our_names({"_orig_mod.module.seg_outputs.0.bias": 1})) == ["decoder.seg_layers.0.bias"]


def test_foreign_names_stay():
    foreign = {"seg_outputs.0.0.bias": 1, "conv_blocks_context.0.0.conv4.bias": 2, "bias": 3}
    assert to_our_names(foreign) == foreign
