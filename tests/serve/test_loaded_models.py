"""Which models stay loaded."""

import pytest

from stunet.errors import NotEnoughMemoryError
from stunet.inference.predictor import InferenceConfig
from stunet.serve.loaded_models import KEPT_FREE, LoadedModels
from stunet.weights.model_file import save_model
from tests.inference.samples import card, plan, tiny_network

CONFIG = InferenceConfig(device="cpu", backend="torch")


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    paths = [tmp_path_factory.mktemp("models") / f"{name}.safetensors" for name in "abc"]
    for path in paths:
        network = tiny_network(num_classes=3)
        save_model(path, network.state_dict(), card(network, plan()))
    return [str(path) for path in paths]


def test_a_model_is_loaded_once(sources):
    models = LoadedModels(free=lambda: 10 * KEPT_FREE)
    first = models.predictor(sources[0], CONFIG)
    assert models.predictor(sources[0], CONFIG) is first
    other = models.predictor(sources[0], InferenceConfig(device="cpu", backend="torch", step=1.0))
    assert other is not first and other.model is first.model


def test_the_least_used_goes_where_memory_asks(sources):
    free = [10 * KEPT_FREE]
    models = LoadedModels(free=lambda: free[0])
    for source in sources[:2]:
        models.predictor(source, CONFIG)
    models.predictor(sources[0], CONFIG)
    assert models.sources == [sources[1], sources[0]]
    free[0] = 0
    models.predictor(sources[2], CONFIG)
    assert models.sources == [sources[2]]


def test_work_that_lacks_memory_is_done_once_more_without_other_models(sources):
    models = LoadedModels(free=lambda: 10 * KEPT_FREE)
    for source in sources:
        models.predictor(source, CONFIG)
    tries = []

    def work():
        tries.append(len(models.sources))
        if len(tries) == 1:
            raise NotEnoughMemoryError("too little")

    models.retrying(sources[0], work)
    assert tries == [3, 1] and models.sources == [sources[0]]
    with pytest.raises(NotEnoughMemoryError):
        models.retrying(sources[0], lambda: (_ for _ in ()).throw(NotEnoughMemoryError("too little")))
