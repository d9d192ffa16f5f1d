"""A server with models of its own: names, no paths, and labels of regions."""

import httpx
import pytest

from stunet.serve.offered_models import describe_models
from stunet.weights.model_file import save_model
from tests.inference.samples import card, plan, tiny_network
from tests.serve.conftest import RunningServer


@pytest.fixture
def spine(tmp_path):
    path = tmp_path / "spine.safetensors"
    network = tiny_network(num_classes=3)
    save_model(path, network.state_dict(), card(network, plan()))
    return path


def test_models_are_described_without_their_place(spine):
    (model,) = describe_models([str(spine)])
    assert model.name == "spine" and model.available and len(model.classes) == 2
    assert [one.value for one in model.classes] == [1, 2] and str(spine.parent) not in repr(model)


def test_all_of_the_catalogue_where_none_are_named():
    assert [model.name for model in describe_models([])] == ["hippocampus", "small", "base", "large", "huge"]


def test_a_damaged_model_is_not_available(spine):
    spine.write_bytes(b"no model")
    (model,) = describe_models([str(spine)])
    assert not model.available and model.classes == []


def test_a_server_with_a_model_file(spine, tmp_path, hippocampus):
    server = RunningServer(tmp_path / "data", "--models", str(spine), "hippocampus")
    try:
        with server.client() as client:
            assert [model.name for model in client.models()] == ["spine", "hippocampus"]
            job = client.submit(client.upload(hippocampus), "spine")
            client.wait(job)
            assert str(tmp_path) not in httpx.get(f"{server.url}/api/v1/jobs/{job.job}/record").text
            client.wait(client.submit(job.scan, "hippocampus"))
    finally:
        server.kill()
