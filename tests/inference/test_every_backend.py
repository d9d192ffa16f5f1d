"""Every backend implements the interface of `backends/base.py`."""

import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stunet.errors import UserError
from stunet.inference.backends import openvino_backend
from stunet.inference.backends.names import BACKEND_NAMES
from stunet.inference.backends.openvino_backend import OpenVinoBackend
from stunet.inference.backends.precision import cpu_computes_bfloat16
from stunet.inference.backends.registry import BACKENDS
from stunet.inference.backends.torch_backend import TorchBackend, torch_device
from tests.inference.samples import WINDOW, tiny_network

CPU = torch.device("cpu")


PACKAGES = {"torch": "torch", "openvino": "openvino", "onnx": "onnxruntime"}
"""The packages that each backend needs."""


def test_every_backend_has_its_name():
    assert tuple(BACKENDS) == BACKEND_NAMES


def make(name, networks, precision="float32"):
    pytest.importorskip(PACKAGES[name])
    return BACKENDS[name](networks, CPU, precision, WINDOW)


def logits_by(backend, windows_BCZYX):
    features = backend.run(windows_BCZYX)
    assert features.shape == (len(windows_BCZYX), *WINDOW, backend.head.num_features)
    assert features.dtype in (torch.float32, getattr(torch, backend.precision))
    return backend.head.logits(features.float().flatten(0, 3)).view(*features.shape[:4], -1).movedim(-1, 1)


def mean_logits(networks, windows_BCZYX):
    with torch.no_grad():
        return torch.stack([network(windows_BCZYX) for network in networks]).mean(0)


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("num_classes", "folds"), [(2, 1), (8, 2), (40, 1), (40, 3)])
def test_head_of_features_is_the_mean_of_logits(name, num_classes, folds):
    networks = [tiny_network(num_classes, 1, seed) for seed in range(folds)]
    windows = torch.randn(2, 1, *WINDOW)
    given = windows.clone()
    backend = make(name, networks)
    assert (backend.name, backend.precision, backend.device) == (name, "float32", CPU)
    assert backend.head.num_features <= num_classes
    expected = mean_logits(networks, windows)
    assert (logits_by(backend, windows) - expected).abs().max() <= 1e-4 * expected.std()
    assert torch.equal(windows, given)
    assert torch.equal(backend.run(windows).clone(), backend.run(windows))


@pytest.mark.parametrize("name", ["torch", "openvino"])
def test_bfloat16_is_near(name):
    """8 bits of mantissa: each of some 20 layers rounds by up to 0.4 %."""
    network = tiny_network(40)
    windows = torch.randn(1, 1, *WINDOW)
    expected = mean_logits([network], windows)
    difference = (logits_by(make(name, [network], "bfloat16"), windows) - expected).abs().mean() / expected.std()
    assert difference <= 0.03
    assert difference > 1e-5 or not cpu_computes_bfloat16()


@pytest.mark.parametrize("name", BACKENDS)
def test_threads_share_a_backend(name):
    backend = make(name, [tiny_network(3)])
    windows = [torch.randn(1, 1, *WINDOW) for _ in range(8)]
    expected = [backend.run(window).clone() for window in windows]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda window: backend.run(window).clone(), windows)
        for answer, alone in zip(answers, expected, strict=True):
            assert torch.equal(answer, alone)


def test_openvino_is_compiled_once(monkeypatch):
    pytest.importorskip("openvino")
    converted = []
    plain = openvino_backend._convert
    monkeypatch.setattr(openvino_backend, "_convert", lambda *given: converted.append(1) or plain(*given))
    network, other = tiny_network(4, seed=11), tiny_network(4, seed=12)
    window = torch.randn(1, 1, *WINDOW)
    first = make("openvino", [network]).run(window)
    again = make("openvino", [network]).run(window)
    assert torch.equal(first, again) and len(converted) == 1
    assert not torch.equal(make("openvino", [other]).run(window), first) and len(converted) == 2


def test_what_a_backend_does_not_offer():
    network = tiny_network(3)
    with pytest.raises(UserError, match="does not support float16 on 'cpu', only float32, bfloat16"):
        TorchBackend([network], CPU, "float16")
    with pytest.raises(UserError, match="runs on the CPU"):
        OpenVinoBackend([network], torch.device("cuda"), "float32", WINDOW)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(UserError, match=r"pip install '\.\[cpu\]'"):
        OpenVinoBackend([tiny_network(3)], CPU, "float32", WINDOW)


def test_a_copy_goes_to_another_device_and_the_original_stays():
    network = tiny_network()
    TorchBackend([network], torch.device("meta"))
    assert {p.device.type for p in network.parameters()} == {"cpu"}


def test_devices():
    assert torch_device("cpu") == CPU
    assert torch_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match=r"no device 'gpu'.* Known names: auto, cpu"):
        torch_device("gpu")
