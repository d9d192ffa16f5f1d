import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from stunet.errors import UserError
from stunet.inference.backends.onnx_backend import OnnxBackend, session_options
from tests.inference.samples import WINDOW, tiny_network

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

CPU = torch.device("cpu")


@torch.no_grad()
@pytest.mark.parametrize("window_size", [WINDOW, ()], ids=["known size", "any size"])
@pytest.mark.parametrize(("num_classes", "folds"), [(2, 1), (8, 2), (40, 1), (40, 3)])
def test_head_of_features_is_the_mean_of_logits(num_classes, folds, window_size):
    networks = [tiny_network(num_classes, 2, seed) for seed in range(folds)]
    windows = torch.randn(2, 2, *WINDOW)
    given = windows.clone()
    backend = OnnxBackend(networks, CPU, "float32", window_size)
    features = backend.run(windows)
    assert (backend.name, backend.device, backend.precision) == ("onnx", CPU, "float32")
    assert features.shape == (2, *WINDOW, backend.head.num_features) and features.dtype == torch.float32
    assert backend.head.num_features <= num_classes
    expected = torch.stack([network(windows) for network in networks]).mean(0)
    logits = backend.head.logits(features.flatten(0, 3)).view(2, *WINDOW, -1).movedim(-1, 1)
    assert float((logits - expected).abs().max()) <= 1e-4 * float(expected.std())
    assert torch.equal(windows, given)
    assert torch.equal(backend.run(windows), features)


def test_several_threads():
    backend = OnnxBackend([tiny_network()], CPU, "float32", WINDOW)
    windows = torch.randn(4, 1, 1, *WINDOW)
    alone = [backend.run(window) for window in windows]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(backend.run, windows))
    assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


def test_views_are_taken():
    backend = OnnxBackend([tiny_network()], CPU)
    windows = torch.randn(1, 1, *WINDOW).flip(4).transpose(3, 4)
    assert torch.equal(backend.run(windows), backend.run(windows.contiguous()))


def test_weights_are_not_copied():
    network = tiny_network()
    backend = OnnxBackend([network], CPU, "float32", WINDOW)
    image = torch.randn(1, 1, *WINDOW)
    before = backend.run(image)
    with torch.no_grad():
        network.encoder.stages[4][0].shortcut.weight.mul_(2)
    assert not torch.equal(backend.run(image), before)


def test_as_many_threads_as_torch():
    assert session_options().intra_op_num_threads == torch.get_num_threads()


@pytest.mark.parametrize(
    ("device", "precision", "sentence"),
    [
        ("cpu", "bfloat16", "does not support bfloat16 on 'cpu'"),
        ("meta", "float32", "cannot run on 'meta' here, because this ONNX Runtime has .*CPUExecutionProvider"),
    ],
)
def test_what_it_does_not_offer(device, precision, sentence):
    with pytest.raises(UserError, match=sentence):
        OnnxBackend([tiny_network()], torch.device(device), precision, WINDOW)


def test_a_missing_package_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"pip install '\.\[onnx\]'"):
        OnnxBackend([tiny_network()], CPU, "float32", WINDOW)
