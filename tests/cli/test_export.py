import hashlib
import json

import pytest

from stunet.cli.output import RESULTS

pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")


@pytest.mark.parametrize(("to", "names"), [("onnx", ["m.onnx"]), ("openvino", ["m.xml", "m.bin"])])
def test_a_file_and_its_card(stunet, capsys, model_file, tmp_path, to, names):
    assert stunet("export", "-m", model_file, "--to", to, "-o", tmp_path / names[0], "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["files"] == [str(tmp_path / name) for name in (*names, "m.card.json")]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*names, "m.card.json"))
    card = json.loads((tmp_path / "m.card.json").read_text())
    for name in names:
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() in json.dumps(card)


def test_what_people_see(stunet, capsys, monkeypatch, model_file, tmp_path):
    monkeypatch.setattr(RESULTS, "_width", 300)  # wide enough for any temporary folder
    monkeypatch.setattr(RESULTS, "_height", 50)
    assert stunet("export", "-m", model_file, "--to", "onnx", "-o", tmp_path / "m.onnx") == 0
    shown = capsys.readouterr().out
    assert "standard deviations at most" in shown and "m.card.json" in shown


@pytest.mark.parametrize(
    ("to", "output", "sentence"),
    [
        ("onnx", "m.xml", "is a .onnx file"),
        ("openvino", "m.onnx", "is a .xml file"),
        ("onnx", "/proc/none/m.onnx", "/proc/none: cannot be written to"),
    ],
)
def test_paths_that_cannot_be_right(stunet, capsys, model_file, tmp_path, to, output, sentence):
    assert stunet("export", "-m", model_file, "--to", to, "-o", tmp_path / output) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_folder_is_made(stunet, model_file, tmp_path):
    assert stunet("export", "-m", model_file, "--to", "onnx", "-o", tmp_path / "new" / "er" / "m.onnx") == 0
    assert sorted(path.name for path in (tmp_path / "new" / "er").iterdir()) == ["m.card.json", "m.onnx"]


def test_a_monai_bundle(stunet, capsys, model_file, tmp_path):
    command = ("export", "-m", model_file, "--to", "monai-bundle", "-o", tmp_path / "bundle", "--json")
    assert stunet(*command) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert str(tmp_path / "bundle/configs/metadata.json") in files and str(tmp_path / "bundle/models/model.ts") in files
    assert stunet(*command) == 2
    assert "a bundle needs a new or empty folder" in capsys.readouterr().err
