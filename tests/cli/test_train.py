"""`stunet prepare` and `stunet train`: what they say before nnU-Net does anything. Whole runs: tests/training."""

import json
import sys

import pytest

from stunet.cli.train import print_transfer
from stunet.networks.stunet import build_stunet, config_of_size
from stunet.weights.transfer import Task, TransferOptions, transfer
from tests.weights import samples


@pytest.mark.parametrize("command", ["prepare", "train"])
def test_without_nnunet(stunet, capsys, monkeypatch, command):
    for name in [name for name in sys.modules if name.startswith("stunet.training")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    assert stunet(command, "-d", 4) == 2
    assert capsys.readouterr() == ("", "stunet: Training needs nnU-Net. Install it with: pip install 'stunet[train]'\n")


@pytest.fixture
def no_variables(monkeypatch):
    """nnU-Net's variables as they are on a new machine, also after the test."""
    pytest.importorskip("nnunetv2")
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("command", ["prepare", "train"])
@pytest.mark.parametrize(
    ("options", "sentence"), [(["-d", 5], "no folder Dataset005_*"), (["-d", 4, "--size", "big"], "no size 'big'")]
)
def test_what_cannot_be_trained(stunet, capsys, no_variables, command, options, sentence):
    assert stunet(command, *options, "--json") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and sentence in captured.err


def test_the_report_of_a_transfer_is_a_table_on_stderr(capsys):
    network, card = samples.network(), samples.card()
    task = Task(("background", "liver", "class_2"), ("T1", "T2"), {})
    new = build_stunet(config_of_size("tiny", 2, 3))
    print_transfer(transfer(network.state_dict(), card, new, task, TransferOptions(keep_head=True)))
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = [line.split() for line in captured.err.splitlines()]
    assert ["head", "rows", "kept", "background,", "class_2"] in lines and ["head", "rows", "new", "liver"] in lines
    assert any(line[:1] == ["channels"] and "channel_0," in line for line in lines)


@pytest.mark.slow
def test_results_on_stdout_and_nnunets_talk_on_stderr(shared_data, tmp_path, capfd, no_variables, stunet):
    from tests.training.conftest import DATASET, make_raw_dataset

    make_raw_dataset(shared_data / DATASET, tmp_path / "stunet_home" / "raw" / DATASET, cases=5)
    assert stunet("prepare", "-d", 4, "--size", "tiny", "--processes", 1, "--json") == 0
    assert json.loads(capfd.readouterr().out)["cases"] == 5
    options = ["--size", "tiny", "--epochs", 1, "--iterations", 1, "--workers", 0, "--json"]
    assert stunet("train", "-d", 4, *options) == 0
    captured = capfd.readouterr()
    result = json.loads(captured.out)
    assert "Training done." in captured.err
    assert result["next"].startswith("stunet predict -m ")
    scan = tmp_path / "stunet_home" / "raw" / DATASET / "imagesTr" / "hippocampus_001_0000.nii.gz"
    assert stunet("predict", "-m", result["model_folder"], "-f", 0, "-i", scan, "-o", tmp_path / "labels.nii.gz") == 0
