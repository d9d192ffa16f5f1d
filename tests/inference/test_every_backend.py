"""Every backend fulfils the contract of `backends/base.py`."""

import pytest
import torch

from stunet.errors import UserError
from stunet.inference.backends.table import BACKENDS
from stunet.inference.backends.torch_backend import TorchBackend, torch_device
from tests.inference.samples import WINDOW, tiny_network

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", BACKENDS)
@pytest.mark.parametrize(("num_classes", "folds"), [(2, 1), (8, 2), (40, 1), (40, 3)])
def test_head_of_features_is_the_mean_of_logits(name, num_classes, folds):
    networks = [tiny_network(num_classes, 1, seed) for seed in range(folds)]
    windows = torch.randn(2, 1, *WINDOW)
    given = windows.clone()
    backend = BACKENDS[name](networks, CPU)
    features = backend.run(windows)
    assert backend.name == name
    assert features.shape == (2, backend.head.num_features, *WINDOW)
    assert backend.head.num_features <= num_classes
    with torch.no_grad():
        expected = torch.stack([network(windows) for network in networks]).mean(0)
    logits = backend.head.logits(features.movedim(1, -1).flatten(0, 3)).view(2, *WINDOW, -1).movedim(-1, 1)
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(windows, given)
    assert torch.equal(backend.run(windows), features)


def test_a_copy_goes_to_another_device_and_the_original_stays():
    network = tiny_network()
    TorchBackend([network], torch.device("meta"))
    assert {p.device.type for p in network.parameters()} == {"cpu"}


def test_devices():
    assert torch_device("cpu") == CPU
    assert torch_device("auto").type in ("cpu", "cuda")
    with pytest.raises(UserError, match="have: cpu"):
        torch_device("gpu")
