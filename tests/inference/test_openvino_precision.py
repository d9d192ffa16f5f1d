"""In bfloat16 by OpenVINO the decoder's residual stream stays in float32."""

import pytest
import torch

from stunet.inference.backends import openvino_backend
from stunet.inference.backends.openvino_backend import OpenVinoBackend
from stunet.inference.backends.precision import cpu_computes_bfloat16
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet

openvino = pytest.importorskip("openvino")

pytestmark = pytest.mark.skipif(not cpu_computes_bfloat16(), reason="this CPU has no bfloat16")

CPU = torch.device("cpu")

WINDOW = (32, 64, 64)
"""The published strides reduce it to 2 x 4 x 4 voxels, 1 / 16 ** 3 of the window."""

OFFSET = 1000.0
"""Size of the residual stream before the last stage, as in a network fitted to a CT."""


def network_with_a_strong_stream() -> STUNet:
    """The normalised output of the second-to-last block is small compared with its stream, and the next convolution
    reads it."""
    torch.manual_seed(3)
    network = STUNet(1, 40, width=8, strides=PUBLISHED_STRIDES).eval()
    with torch.no_grad():
        network.decoder.stages[-2][0].shortcut.bias.add_(OFFSET)
        narrow = network.decoder.upsamples[-1].conv
        narrow.bias.sub_(OFFSET * narrow.weight.sum((1, 2, 3, 4)))
    return network


def backend_of(networks: list[STUNet], precision: str) -> OpenVinoBackend:
    return OpenVinoBackend(networks, CPU, precision, WINDOW)


def error_of(network: STUNet) -> float:
    """Mean difference of bfloat16's features from float32's, channel by channel in standard deviations."""
    windows = torch.randn(1, 1, *WINDOW, generator=torch.Generator().manual_seed(0))
    exact, coarse = (
        backend_of([network], precision).run(windows).clone().flatten(0, 3) for precision in ("float32", "bfloat16")
    )
    return float(((coarse - exact).abs().mean(0) / exact.std(0)).mean())


def test_labels_do_not_hang_on_the_size_of_the_stream(monkeypatch):
    kept = error_of(network_with_a_strong_stream())
    monkeypatch.setattr(openvino_backend, "keep_stream_in_float32", lambda model, path: None)
    monkeypatch.setattr(openvino_backend, "FORMAT", -1)  # not from the cache
    rounded = error_of(network_with_a_strong_stream())
    assert kept <= 0.02
    assert rounded >= 10 * kept


def test_what_is_computed_in_float32():
    network = network_with_a_strong_stream()
    model = backend_of([network], "bfloat16")._compiled.get_runtime_model()
    found = {}
    for node in model.get_ordered_ops():
        information = {key: node.get_rt_info()[key].astype(str) for key in ("layerType", "runtimePrecision")}
        if information["layerType"] in ("Convolution", "Deconvolution"):
            weights = node.input_values()[1].get_node().get_friendly_name().removesuffix(".weight")
            found[weights.removeprefix("bodies.0.")] = information["runtimePrecision"]
    exact = {name for name, precision in found.items() if precision == "f32"}
    stages = range(5)
    stream = {f"stages.{stage}.{layer}" for stage in stages for layer in ("narrow", "shortcut_up")}
    coarse = {f"stages.0.{layer}" for layer in ("conv_up", "conv_skip", "conv2", "shortcut_skip")}
    assert exact == stream | coarse
    assert set(found.values()) == {"f32", "bf16"}


@pytest.mark.parametrize(
    ("changes", "folds"),
    [
        ({"depth": 2}, 1),
        ({"depth": 3, "downsampling": "convolution"}, 1),
        ({"upsampling": "trilinear"}, 1),
        ({"upsampling": "transposed"}, 2),
        ({"num_classes": 3}, 2),
        ({"width": 16}, 1),
        ({"strides": ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 2, 1))}, 1),
    ],
)
def test_every_shape_of_network_runs_and_is_as_near_as_torch(changes, folds):
    torch.manual_seed(0)
    arguments = {"num_classes": 40, "width": 8, "strides": PUBLISHED_STRIDES, **changes}
    networks = [STUNet(1, **arguments).eval() for _ in range(folds)]
    windows = torch.randn(1, 1, *WINDOW)
    backends = (
        backend_of(networks, "float32"),
        backend_of(networks, "bfloat16"),
        TorchBackend(networks, CPU, "bfloat16"),
    )
    exact, ours, plain = (backend.head.logits(backend.run(windows).flatten(0, 3)) for backend in backends)
    assert (ours - exact).abs().mean() <= 1.2 * (plain - exact).abs().mean()
