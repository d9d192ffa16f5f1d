"""A Hub on loopback with a published checkpoint."""

import io

import pytest
import torch

from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES
from stunet.weights.catalogue import CATALOGUE
from tests.weights.loopback_hub import FILE, REPOSITORY, LoopbackHub, entry
from tests.weights.samples import v1_content


@pytest.fixture(scope="session")
def published_bytes():
    """A published `small` in half precision, 29 MB: more than the 10 MB that huggingface_hub writes at once."""
    torch.manual_seed(0)
    with torch.device("meta"):
        config = network_spec("small", 1, 105, strides=PUBLISHED_STRIDES)
        shapes = {key: tensor.shape for key, tensor in build(config).state_dict().items()}
    buffer = io.BytesIO()
    torch.save(v1_content({key: torch.rand(shape).half() for key, shape in shapes.items()}), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(published_bytes, tmp_path, monkeypatch):
    """The catalogue's `small` is on this Hub, and STUNET_HOME is empty."""
    monkeypatch.setenv("STUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(CATALOGUE, "small", entry(len(published_bytes)))
    with LoopbackHub(REPOSITORY, FILE, published_bytes).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub
