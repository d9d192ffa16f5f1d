"""The precision and device of torch's computations, tested without a GPU: with bfloat16 on the CPU and on meta."""

import pytest
import torch
from torch import nn

from stunet.inference import head as head_module
from stunet.inference.backends import torch_backend
from stunet.inference.backends.names import PRECISIONS
from stunet.inference.backends.torch_backend import TorchBackend, on_device
from stunet.inference.head import GPU_CHUNK_BYTES, LinearHead
from stunet.networks.stunet import STUNet
from tests.inference.samples import WINDOW, tiny_network


@pytest.mark.parametrize("folds", [1, 2])
def test_heads_of_few_classes_compute_in_float32(folds):
    """As documented at `Precision`. The features, which differ from float32, come from a network in bfloat16."""
    networks = [tiny_network(num_classes=3, seed=seed) for seed in range(folds)]
    windows = torch.randn(1, 1, *WINDOW, generator=torch.Generator().manual_seed(0))
    logits = TorchBackend(networks, torch.device("cpu"), "bfloat16").run(windows)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        copies = [on_device(network, torch.device("cpu"), "bfloat16") for network in networks]
        features = [copy.forward_features(windows).float() for copy in copies]
    with torch.no_grad():
        expected = sum(network.head(one) for network, one in zip(networks, features, strict=True)) / folds
    assert torch.equal(logits, expected.movedim(1, -1))
    assert not torch.equal(logits, logits.bfloat16().float())


@pytest.mark.parametrize("precision", ["float32", "float16"])
def test_weights_reach_the_device_in_the_precision_of_the_network(precision):
    """Weights are converted once, not for each window. Norms and heads stay in float32, as under autocasting."""
    network = on_device(tiny_network(), torch.device("meta"), precision)
    for name, module in network.named_modules():
        is_of_stream = name.startswith("decoder.") and ("shortcut" in name or "upsamples" in name)
        is_converted = isinstance(module, nn.Conv3d) and "seg_layers" not in name and not is_of_stream
        for tensor in module.parameters(recurse=False):
            assert tensor.dtype == (getattr(torch, precision) if is_converted else torch.float32), name


@pytest.fixture
def float16_on_cpus(monkeypatch):
    """torch emulates it on the CPU; users can only choose it on GPUs."""
    monkeypatch.setitem(torch_backend.OFFERED, "cpu", PRECISIONS)


def network_with_a_large_stream() -> STUNet:
    """As in a trained network, the decoder's stream is much larger than what its blocks add to it."""
    network = tiny_network()
    with torch.no_grad():
        network.decoder.stages[-1][0].shortcut.bias += 2000
    return network


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_the_decoders_stream_stays_in_float32(float16_on_cpus, precision):
    network, windows = network_with_a_large_stream(), torch.randn(1, 1, *WINDOW)
    with torch.no_grad():
        exact = network.double().forward_features(windows.double()).movedim(1, -1)
        network.float()
        with torch.autocast("cpu", getattr(torch, precision)):
            plain = network.forward_features(windows).movedim(1, -1)
    assert exact.abs().max() > 1000
    ours = TorchBackend([network], torch.device("cpu"), precision).run(windows)
    assert (ours - exact).abs().mean() < (plain - exact).abs().mean() / 4


def test_its_convolutions_are_computed_in_half(float16_on_cpus):
    types = {}
    network = on_device(tiny_network(), torch.device("cpu"), "float16")
    for name, module in network.decoder.named_modules():
        if isinstance(module, nn.Conv3d) or name.endswith("norm2"):
            module.register_forward_hook(lambda _, __, output, name=name: types.update({name: output.dtype}))
    with torch.no_grad(), torch.autocast("cpu", torch.float16):
        assert network.forward_features(torch.randn(1, 1, *WINDOW)).dtype == torch.float32
    assert {dtype for name, dtype in types.items() if name.endswith(("conv1", "conv2"))} == {torch.float16}
    assert {dtype for name, dtype in types.items() if not name.endswith(("conv1", "conv2"))} == {torch.float32}


def test_the_network_that_was_given_is_not_changed():
    network = tiny_network()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    TorchBackend([network], torch.device("cpu"), "bfloat16").run(torch.randn(1, 1, *WINDOW))
    after = network.state_dict()
    assert all(
        torch.equal(after[name], tensor) and after[name].dtype == torch.float32 for name, tensor in before.items()
    )


def test_what_is_too_large_for_float16_is_computed_in_float32(float16_on_cpus, caplog):
    network, windows = tiny_network(), torch.randn(2, 1, *WINDOW)
    with torch.no_grad():
        network.encoder.stages[1][0].conv1.weight *= 1e5
    backend = TorchBackend([network], torch.device("cpu"), "float16")
    features = backend.run(windows)
    assert torch.equal(features, TorchBackend([network], torch.device("cpu"), "float32").run(windows))
    assert torch.isfinite(features).all() and backend.precision == "float32"
    assert [record.message for record in caplog.records] == [torch_backend.OVERFLOW]


def test_a_gpu_labels_a_plane_at_once(monkeypatch):
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 4 * 105 * 10)
    weight, bias = torch.zeros(105, 32), torch.zeros(105)
    assert LinearHead(weight, bias).chunk == 10
    assert LinearHead(weight.to("meta"), bias.to("meta")).chunk == GPU_CHUNK_BYTES // (4 * 105) >= 512 * 512
