import pytest

from tests.inference.samples import save_tiny_model


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The file of a tiny network with three classes; tests leave it as it is."""
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")
