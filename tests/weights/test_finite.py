"""NaN and infinity in weights are named with tensor and file, whatever file they come from."""

import math

import pytest
import torch

from stunet.errors import FileError
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.finite import require_finite
from stunet.weights.model import load_model, read_pretrained
from stunet.weights.model_file import save_model
from stunet.weights.read_card import read_card
from tests.inference.samples import card, plan, tiny_network


def damaged_model(tmp_path, value):
    network = tiny_network()
    weights = network.state_dict()
    weights["head.weight" if "head.weight" in weights else next(iter(weights))].flatten()[3] = value
    save_model(tmp_path / "model.safetensors", weights, card(network, plan()))
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_model_file(tmp_path, value):
    path = damaged_model(tmp_path, value)
    for read in (load_model, read_pretrained):
        with pytest.raises(FileError, match=r"model\.safetensors: 1 of [\d,]+ values of \S+weight are NaN or infinite"):
            read(path)
    assert read_card(path).name == "sample"  # what the model says of itself is still known


def test_a_checkpoint(tmp_path):
    weights = {"seg_outputs.0.weight": torch.tensor([1.0, math.nan]), "a.bias": torch.tensor([math.inf])}
    torch.save({"state_dict": weights}, tmp_path / "one.model")
    with pytest.raises(FileError, match=r"one\.model: 1 of 2 values of seg_outputs\.0\.weight .* a\.bias"):
        read_checkpoint(tmp_path / "one.model")


def test_finite_weights_whose_sum_is_not(tmp_path):
    half = torch.full((100,), 60000.0, dtype=torch.float16)
    weights = {"half": half, "large": torch.full((100,), 3e38), "count": torch.tensor([7])}
    assert half.sum().isinf() and weights["large"].sum().isinf()
    require_finite(weights, tmp_path)
    with pytest.raises(FileError, match="1 of 100 values of large"):
        require_finite({**weights, "large": weights["large"].index_fill(0, torch.tensor([5]), math.inf)}, tmp_path)
