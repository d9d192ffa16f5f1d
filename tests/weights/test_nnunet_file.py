"""The file for nnU-Net's `-pretrained_weights`. That nnU-Net accepts it: tests/training/test_reported_failures.py."""

import pytest
import torch

from stunet.errors import UserError
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.nnunet_file import save_for_nnunet
from tests.weights.samples import network


def test_it_holds_the_weights_in_float32_and_we_read_it_too(tmp_path):
    weights = network().state_dict()
    file = tmp_path / "new folder" / "tiny.pth"
    save_for_nnunet(file, {key: value.half() for key, value in weights.items()})
    stored = torch.load(file, weights_only=True)["network_weights"]
    assert stored.keys() == weights.keys()
    assert all(torch.equal(stored[key], weights[key].half().float()) for key in weights)
    assert read_checkpoint(file).state_dict.keys() == weights.keys()
    assert [path.name for path in file.parent.iterdir()] == ["tiny.pth"]


def test_another_ending(tmp_path):
    with pytest.raises(UserError, match=r"end in \.pth, but tiny\.model does not"):
        save_for_nnunet(tmp_path / "tiny.model", {})
