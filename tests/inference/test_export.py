"""An exported file gives torch's logits, and appears only if it does. The example that uses it has its own tests."""

import json
import re
from hashlib import sha256

import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.inference import export
from stunet.inference.export import export_model
from tests.inference.samples import WINDOW, tiny_model

onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

SUFFIXES = {"onnx": [".onnx"], "openvino": [".xml", ".bin"]}


def run_onnx(path, image):
    return onnxruntime.InferenceSession(path).run(["logits"], {"image": image})[0]


def run_openvino(path, image):
    core = pytest.importorskip("openvino").Core()
    return core.compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})({"image": image})["logits"]


RUN = {"onnx": run_onnx, "openvino": run_openvino}


@pytest.fixture(params=SUFFIXES)
def to(request):
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return request.param


@torch.no_grad()
def assert_gives_the_mean_logits(model, to, path):
    windows = torch.randn(2, model.networks[0].input_channels, *WINDOW)
    expected = torch.stack([network(windows) for network in model.networks]).mean(0)
    found = RUN[to](path, windows.numpy())
    assert found.shape == expected.shape
    assert np.abs(found - expected.numpy()).max() <= 1e-4 * float(expected.std())


@pytest.mark.parametrize(("classes", "channels", "folds"), [(3, 1, 1), (20, 2, 3)])
def test_the_file_gives_the_mean_logits(tmp_path, to, classes, channels, folds):
    model = tiny_model(classes, channels, folds)
    suffixes = SUFFIXES[to]
    exported = export_model(model, to, tmp_path / f"model{suffixes[0]}")
    assert [file.name for file in exported.files] == [f"model{suffix}" for suffix in suffixes]
    assert {file.name for file in tmp_path.iterdir()} == {*(f.name for f in exported.files), "model.card.json"}
    assert exported.card == tmp_path / "model.card.json" and 0 < exported.difference <= 1e-4
    assert_gives_the_mean_logits(model, to, exported.files[0])


def test_weights_beyond_one_file(tmp_path, monkeypatch, to):
    monkeypatch.setattr("stunet.inference.onnx_graph.LARGEST_FILE", 1000)
    model = tiny_model()
    exported = export_model(model, to, tmp_path / f"model{SUFFIXES[to][0]}")
    names = {"onnx": ["model.onnx", "model.onnx.data"], "openvino": ["model.xml", "model.bin"]}[to]
    assert [file.name for file in exported.files] == names
    assert_gives_the_mean_logits(model, to, exported.files[0])


def test_the_card_knows_its_files(tmp_path, to):
    exported = export_model(tiny_model(), to, tmp_path / f"model{SUFFIXES[to][0]}")
    card = json.loads(exported.card.read_text())
    recorded = {(file["name"], file["bytes"], file["sha256"]) for file in card["files"]}
    assert recorded == {(f.name, f.stat().st_size, sha256(f.read_bytes()).hexdigest()) for f in exported.files}
    assert card["checked"]["largest_difference"] == exported.difference
    assert (card["input"]["shape"], card["output"]["shape"]) == (["any", 1, *WINDOW], ["any", 12, *WINDOW])


def test_nothing_in_the_file_tells_of_this_machine(tmp_path, to):
    exported = export_model(tiny_model(), to, tmp_path / f"model{SUFFIXES[to][0]}")
    for file in (*exported.files, exported.card):
        content = file.read_bytes()
        assert str(tmp_path).encode() not in content and b"site-packages" not in content and b"/src/" not in content


def test_the_same_model_gives_the_same_bytes(tmp_path):
    one, two = (export_model(tiny_model(), "onnx", tmp_path / f"{name}.onnx") for name in ("one", "two"))
    assert one.files[0].read_bytes() == two.files[0].read_bytes()


def test_the_model_is_not_changed(tmp_path):
    model = tiny_model(folds=2)
    before = [{key: tensor.clone() for key, tensor in network.state_dict().items()} for network in model.networks]
    export_model(model, "onnx", tmp_path / "model.onnx")
    for network, tensors in zip(model.networks, before, strict=True):
        assert all(torch.equal(tensor, tensors[key]) for key, tensor in network.state_dict().items())


def one_nan(logits):
    logits = logits.copy()
    logits[0, 3, 1, 2, 3] = np.nan
    return logits


@pytest.mark.parametrize("damage", [lambda logits: logits * 1.01, lambda logits: logits[:, :-1], one_nan])
def test_a_wrong_file_does_not_appear(tmp_path, monkeypatch, to, damage):
    suffix, write, run = export._FORMATS[to]
    monkeypatch.setitem(export._FORMATS, to, (suffix, write, lambda path, image: damage(run(path, image))))
    (tmp_path / f"model{suffix}").write_bytes(b"before")
    with pytest.raises(UserError, match=re.escape(f"model{suffix}: not written")):
        export_model(tiny_model(), to, tmp_path / f"model{suffix}")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"before"]


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    model = tiny_model()
    torch.nn.init.constant_(model.networks[0].head.weight, float("nan"))
    with pytest.raises(UserError, match="weights damaged"):
        export_model(model, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_file_is_replaced(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"before")
    model = tiny_model()
    assert_gives_the_mean_logits(model, "onnx", export_model(model, "onnx", tmp_path / "model.onnx").files[0])


@pytest.mark.parametrize(
    ("to", "path", "sentence"),
    [
        ("onnx", "model.xml", "is a .onnx file"),
        ("openvino", "model.onnx", "is a .xml file"),
        ("onnx", "m\udce4del/model.onnx", "take only paths in UTF-8"),
        ("onnx", "/proc/none/model.onnx", "cannot be written to"),
        ("onnx", f"{'x' * 250}.onnx", "the name of this output would have"),
    ],
)
def test_paths_that_cannot_be_right(tmp_path, to, path, sentence):
    with pytest.raises(UserError, match=sentence):
        export_model(tiny_model(), to, tmp_path / path)
    assert list(tmp_path.iterdir()) == []
