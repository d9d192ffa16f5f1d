"""Activations that are NaN or infinite end a prediction with the window and the layer in which they begin."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.imaging.volume import Volume
from stunet.inference.backends.registry import BACKENDS
from stunet.inference.predictor import InferenceConfig, Predictor
from tests.inference.samples import EXACT, tiny_model
from tests.phantoms import smooth_scan

NEEDS = {"torch": (), "openvino": ("openvino", "onnx"), "onnx": ("onnxruntime", "onnx")}


def scan(shape=(13, 20, 26)) -> Volume:
    return Volume(smooth_scan(shape)[None], np.eye(4))


def overflowing_model(layer="encoder.stages.1.0.conv2", **changes):
    """Weights that are finite, but too large for the numbers that come out of the layer."""
    model = tiny_model(**changes)
    with torch.no_grad():
        model.networks[0].get_submodule(layer).weight.fill_(3e38)
    return model


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_names_window_and_layer(backend, tmp_path, monkeypatch):
    if any(find_spec(package) is None for package in NEEDS[backend]):
        pytest.skip(f"{backend} is not installed")
    monkeypatch.setenv("STUNET_HOME", str(tmp_path))
    predictor = Predictor(overflowing_model(), InferenceConfig(backend=backend, precision="float32"))
    with pytest.raises(
        UserError, match=r"the scan, model sample: .* voxel \(0, 0, 0\) .* layer encoder\.stages\.1\.0\.conv2"
    ):
        predictor.predict(scan())


def test_folds_and_mirroring():
    model = tiny_model(folds=2)
    with torch.no_grad():
        model.networks[1].get_submodule("encoder.stages.0.0.conv1").weight.fill_(3e38)
    with pytest.raises(UserError, match=r"layer encoder\.stages\.0\.0\.conv1"):
        Predictor(model, replace(EXACT, mirror=True)).predict(scan())


class BrokenOnce:
    """A backend that answers NaN for windows that begin with a certain value."""

    def __init__(self, backend, value):
        self.name, self.device, self.precision = backend.name, backend.device, backend.precision
        self.allocates_by_torch, self.head = backend.allocates_by_torch, backend.head
        self._backend, self._value = backend, value

    def run(self, windows_BCZYX):
        features = self._backend.run(windows_BCZYX)
        features[windows_BCZYX[:, 0, 0, 0, 0] == self._value, -1, -1, -1, 0] = torch.nan
        return features


def test_the_window_is_found_and_the_backend_is_blamed():
    predictor = Predictor(tiny_model(), EXACT)
    volume = scan((8, 16, 40))
    from stunet.imaging.preprocess import preprocess

    image_CZYX, _ = preprocess(volume, predictor.plan)
    predictor.backend = BrokenOnce(predictor.backend, image_CZYX[0, 0, 0, 24])
    with pytest.raises(UserError, match=r"voxel \(0, 0, 24\) .* --backend torch --precision float32"):
        predictor.predict(volume)


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        ((), "No structure was found: all voxels are background."),
        (("class_2", "class_3"), "None of the requested structures was found: class_2, class_3."),
    ],
)
def test_all_background_is_a_warning(classes, sentence, caplog):
    model = tiny_model()
    with torch.no_grad():
        model.networks[0].head.bias[0] = 1e6
    segmentation = Predictor(model, replace(EXACT, classes=classes)).predict(scan())
    assert not segmentation.labels.any()
    assert any(warning.startswith(sentence) for warning in segmentation.warnings)
    assert sentence in caplog.text
