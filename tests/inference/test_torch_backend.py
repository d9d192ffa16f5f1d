"""What torch computes in which numbers, and where: seen without a GPU, on the CPU's bfloat16 and on the meta device."""

import pytest
import torch
from torch import nn

from stunet.inference import head as head_module
from stunet.inference.backends.torch_backend import TorchBackend, on_device
from stunet.inference.head import GPU_CHUNK_BYTES, LinearHead
from tests.inference.samples import WINDOW, tiny_network


@pytest.mark.parametrize("folds", [1, 2])
def test_heads_of_few_classes_compute_in_float32(folds):
    """As `Precision` says. The features, and so the difference to float32, come from a network in bfloat16."""
    networks = [tiny_network(num_classes=3, seed=seed) for seed in range(folds)]
    windows = torch.randn(1, 1, *WINDOW, generator=torch.Generator().manual_seed(0))
    logits = TorchBackend(networks, torch.device("cpu"), "bfloat16").run(windows)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        features = [network.forward_features(windows).float() for network in networks]
    with torch.no_grad():
        expected = sum(network.head(one) for network, one in zip(networks, features, strict=True)) / folds
    assert torch.equal(logits, expected.movedim(1, -1))
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_weights_reach_the_device_in_the_precision_of_the_network(precision):
    """Once, instead of for each window. What autocasting leaves in float32 stays so: norms, and the heads."""
    network = on_device(tiny_network(), torch.device("meta"), precision)
    for name, module in network.named_modules():
        is_converted = isinstance(module, nn.Conv3d) and "seg_layers" not in name
        for tensor in module.parameters(recurse=False):
            assert tensor.dtype == (getattr(torch, precision) if is_converted else torch.float32), name


def test_a_gpu_labels_a_plane_at_once(monkeypatch):
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 4 * 105 * 10)
    weight, bias = torch.zeros(105, 32), torch.zeros(105)
    assert LinearHead(weight, bias).chunk == 10
    assert LinearHead(weight.to("meta"), bias.to("meta")).chunk == GPU_CHUNK_BYTES // (4 * 105) >= 512 * 512
