"""An exported file gives torch's logits, and its card says all that is needed to use it."""

import json
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.inference import export
from stunet.inference.export import export_model
from stunet.inference.predictor import Predictor
from tests.inference.samples import EXACT, WINDOW, tiny_model
from tests.phantoms import smooth_scan

onnxruntime = pytest.importorskip("onnxruntime")
openvino = pytest.importorskip("openvino")

EXAMPLE = Path(__file__).parents[2] / "examples" / "run_exported.py"


def mean_logits(model, windows_BCZYX):
    with torch.no_grad():
        return torch.stack([network(windows_BCZYX) for network in model.networks]).mean(0).numpy()


@pytest.mark.parametrize(("classes", "channels", "folds"), [(3, 1, 1), (20, 2, 3)])
def test_onnx_runtime_gives_torchs_logits(tmp_path, classes, channels, folds):
    model = tiny_model(classes, channels, folds)
    exported = export_model(model, "onnx", tmp_path / "m.onnx")
    windows = torch.randn(2, channels, *WINDOW)
    session = onnxruntime.InferenceSession(exported.files[0], providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {"image": windows.numpy()})
    expected = mean_logits(model, windows)
    assert logits.shape == expected.shape == (2, classes, *WINDOW)
    assert np.abs(logits - expected).max() <= 1e-4 * expected.std()
    assert 0 <= exported.difference <= 1e-4


def test_openvino_gives_torchs_logits(tmp_path):
    model = tiny_model(20, 2, 2)
    exported = export_model(model, "openvino", tmp_path / "m.xml")
    windows = torch.randn(1, 2, *WINDOW)
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(exported.files[0], "CPU", options)
    expected = mean_logits(model, windows)
    assert np.abs(compiled({"image": windows.numpy()})["logits"] - expected).max() <= 1e-4 * expected.std()


def test_weights_beyond_one_file(tmp_path, monkeypatch):
    monkeypatch.setattr("stunet.inference.onnx_graph.LARGEST_FILE", 1000)
    model = tiny_model()
    exported = export_model(model, "onnx", tmp_path / "m.onnx")
    assert [path.name for path in exported.files] == ["m.onnx", "m.onnx.data"]
    assert exported.files[0].stat().st_size < 100_000 < exported.files[1].stat().st_size
    session = onnxruntime.InferenceSession(exported.files[0], providers=["CPUExecutionProvider"])
    window = torch.randn(1, 1, *WINDOW)
    expected = mean_logits(model, window)
    assert np.abs(session.run(None, {"image": window.numpy()})[0] - expected).max() <= 1e-4 * expected.std()


def test_a_file_that_is_wrong_is_not_left(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_largest_difference", lambda *_: 0.1)
    (tmp_path / "m.onnx").write_bytes(b"before")
    with pytest.raises(UserError, match="not written, for the exported file's answers differ"):
        export_model(tiny_model(), "onnx", tmp_path / "m.onnx")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_the_card_says_what_the_model_needs(tmp_path):
    model = tiny_model(3)
    card = json.loads(export_model(model, "onnx", tmp_path / "m.onnx").card.read_text())
    text = json.dumps(card)
    assert card["postprocessing"]["labels"] == card["output"]["channels"] == ["background", "class_1", "class_2"]
    for needed in ("sliding_window", "postprocessing", "sha256", "licence", "mirror"):
        assert needed in text


@pytest.mark.parametrize(
    "changes", [{"spacing": (1.5, 1.2, 1.0)}, {"orientation": "RAS", "convention": "nnunet_v1"}], ids=str
)
def test_the_example_segments_as_stunet_does(tmp_path, changes):
    model = tiny_model(3, **{"orientation": "RAS", **changes})
    export_model(model, "onnx", tmp_path / "m.onnx")
    affine = np.diag([-0.9, 1.1, 1.3, 1.0])
    nibabel.save(nibabel.Nifti1Image(smooth_scan((20, 24, 28)), affine), tmp_path / "scan.nii.gz")
    command = [sys.executable, EXAMPLE, tmp_path / "m.onnx", tmp_path / "scan.nii.gz", tmp_path / "labels.nii.gz"]
    subprocess.run([str(part) for part in command], check=True)
    written = nibabel.load(tmp_path / "labels.nii.gz")
    ours = Predictor(model, EXACT).predict(tmp_path / "scan.nii.gz").labels
    assert np.array_equal(written.affine, nibabel.load(tmp_path / "scan.nii.gz").affine)
    labels = np.asarray(written.dataobj).T
    assert labels.shape == ours.shape and (labels == ours).mean() >= 0.999


def test_the_model_is_not_changed(tmp_path):
    model = tiny_model()
    before = [network.state_dict()["decoder.seg_layers.4.weight"].clone() for network in model.networks]
    export_model(model, "onnx", tmp_path / "m.onnx")
    after = [network.state_dict()["decoder.seg_layers.4.weight"] for network in model.networks]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
