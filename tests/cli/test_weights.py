import json

import pytest
import torch

from stunet.networks.stunet import STUNet
from stunet.weights.model_file import read_card
from tests.weights import samples

STRIDES = [2, 2, 2] * 4 + [1, 1, 2]


@pytest.fixture
def checkpoint(tmp_path):
    """Three classes, so not a published one."""
    return samples.write_v1(tmp_path / "mine.model", samples.network().state_dict())


@pytest.fixture
def published(tmp_path):
    return samples.write_v1(tmp_path / "small_ep4k.model", samples.network("small", 1, 105).state_dict())


def test_import_of_the_published_kind(stunet, capsys, published, tmp_path):
    output = tmp_path / "small.safetensors"
    assert stunet("weights", "import", published, "-o", output, "--float16", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["size"], shown["classes"], shown["strides"][-1]) == ("small", 105, [1, 1, 2])
    assert shown["bytes"] == output.stat().st_size < 32e6
    assert read_card(output).preprocessing.orientation == "RAS"


def test_five_strides_on_the_command_line(stunet, capsys, published, tmp_path):
    output = tmp_path / "small.safetensors"
    assert stunet("weights", "import", published, "-o", output, "--strides", *[2] * 15, "--json") == 0
    assert json.loads(capsys.readouterr().out)["strides"] == [[1, 1, 1], *[[2, 2, 2]] * 5]
    assert stunet("weights", "import", published, "-o", output, "--strides", *STRIDES) == 0
    assert read_card(output).network.arguments["strides"][-1] == (1, 1, 2)
    assert stunet("weights", "import", published, "-o", output, "--strides", 2, 2) == 2


def test_an_unknown_file_is_not_guessed(stunet, capsys, checkpoint, tmp_path):
    assert stunet("weights", "import", checkpoint, "-o", tmp_path / "mine.safetensors") == 2
    said = capsys.readouterr().err
    assert "mine.model" in said and "--plans" in said and "--strides" in said
    assert not (tmp_path / "mine.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("exec_plain.model.pkl", "exec_plain.model.pkl"),
        ("wrong_shapes.model", "wrong_shapes.model is not an STU-Net"),
        ("zip_path_traversal.zip", "is a zip archive, not a model"),
        ("empty_file.nii.gz", "is empty"),
        ("lost.model", "There is no file"),
    ],
)
def test_bad_inputs(stunet, capsys, shared_data, tmp_path, monkeypatch, name, sentence):
    monkeypatch.chdir(tmp_path)
    assert stunet("weights", "import", shared_data / "bad_inputs" / name, "-o", "out.safetensors") == 2
    said = capsys.readouterr().err
    assert said.startswith("stunet: ") and sentence in said
    assert list(tmp_path.iterdir()) == []


def test_a_hostile_pickle_as_plans(stunet, capsys, shared_data, checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plans = shared_data / "bad_inputs" / "exec_plain.model.pkl"
    assert stunet("weights", "import", checkpoint, "-o", "out.safetensors", "--plans", plans) == 2
    said = capsys.readouterr().err
    assert "exec_plain.model.pkl would run" in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.model"]


def test_export_for_nnunets_own_commands(stunet, capsys, published, tmp_path):
    output = tmp_path / "nnunet" / "small.pth"
    assert stunet("weights", "export", "-m", published, "-o", output, "--channels", 2, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["next"] == (
        "nnUNetv2_train DATASET 3d_fullres FOLD -tr STUNetTrainer_small_ft -p STUNetPlans_small "
        f"-pretrained_weights {output}"
    )
    weights = torch.load(output, weights_only=True)["network_weights"]
    source = samples.network("small", 1, 105).state_dict()
    assert weights.keys() == source.keys()
    for key, value in source.items():
        expected = torch.cat([value, value], dim=1) if key in STUNet.stem_keys else value
        assert torch.equal(weights[key], expected), key
    assert stunet("weights", "export", "-m", published, "-o", output, "--channels", 2, "--divide-channels") == 0
    halved = torch.load(output, weights_only=True)["network_weights"]
    assert torch.equal(halved[STUNet.stem_keys[0]], weights[STUNet.stem_keys[0]] / 2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(["-o", "x.model"], r"end in .pth"), (["-o", "x.pth", "--channels", 0], "one input channel")],
)
def test_what_cannot_be_exported(stunet, capsys, published, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    assert stunet("weights", "export", "-m", published, *options) == 2
    assert sentence in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["small_ep4k.model"]


def test_list_verify_remove(stunet, capsys):
    assert stunet("weights", "list", "--json") == 0
    assert isinstance(json.loads(capsys.readouterr().out), list)
    for action in ("get", "verify", "remove"):
        assert stunet("weights", action, "bse") == 2
        assert "bse" in capsys.readouterr().err
