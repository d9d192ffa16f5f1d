"""`stunet prepare` and `stunet train`: what they say before nnU-Net does anything. Whole runs: tests/training."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stunet as stunet_package
from stunet.cli.train import print_transfer, spoken_report
from stunet.networks.registry import build, network_spec
from stunet.training.recipes import recipe_for
from stunet.weights.transfer import Task, TransferOptions, transfer
from tests.weights import samples


@pytest.mark.parametrize("command", [("prepare", "-d", 4), ("train", "-d", 4), ("models", "--fit", "24GB")])
def test_without_nnunet(stunet, capsys, monkeypatch, command):
    for name in [name for name in sys.modules if name.startswith(("stunet.training", "nnunetv2"))]:
        if name != "stunet.training.settings":  # the command line itself holds it
            monkeypatch.delitem(sys.modules, name)
    # the command imports the package anew; afterwards `stunet.training` is to be the old one again, with its files
    monkeypatch.setattr(stunet_package, "training", None, raising=False)
    monkeypatch.setitem(sys.modules, "nnunetv2", None)
    assert stunet(*command) == 2
    said = "stunet: Training needs nnU-Net. Install it with pip install '.[train]' in the clone of stunet.\n"
    assert capsys.readouterr() == ("", said)


@pytest.fixture
def no_variables(monkeypatch):
    """nnU-Net's variables as they are on a new machine, also after the test."""
    pytest.importorskip("nnunetv2")
    for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


@pytest.mark.parametrize("command", ["prepare", "train"])
@pytest.mark.parametrize(
    ("options", "sentence"), [(["-d", 5], "no folder Dataset005_*"), (["-d", 4, "--size", "big"], "no network 'big'")]
)
def test_what_cannot_be_trained(stunet, capsys, no_variables, command, options, sentence):
    assert stunet(command, *options, "--json") == 2
    captured = capsys.readouterr()
    assert captured.out == "" and sentence in captured.err


OPTIONS = {
    "-d, --dataset": "required",
    "-f, --fold, --folds": "0",
    "--from": "None",
    "--keep-head": "False",
    "--divide-channels": "False",
    "--freeze": "nothing",
    "--flat-lr": "False",
    "--network, --size": "None",
    "-c, --configuration": "3d_fullres",
    "--plans": "nnunet",
    "--recipe": "None",
    "--epochs": "None",
    "--iterations": "None",
    "--lr": "None",
    "--batch-size": "None",
    "--patch": "None",
    "--foreground": "None",
    "--class-weights": "None",
    "--patience": "None",
    "--augment-mirror, --no-augment-mirror": "True",
    "--paper-transforms, --no-paper-transforms": "True",
    "--device": "auto",
    "--precision": "auto",
    "--augmentation": "auto",
    "--compile": "auto",
    "--accumulate": "1",
    "--checkpoint-activations": "False",
    "--save-every": "5",
    "--picture-every": "10",
    "--tensorboard": "False",
    "--wandb": "False",
    "--gpus": "1",
    "--strategy": "auto",
    "--seed": "0",
    "--workers": "None",
    "--resume": "False",
    "--validate-only": "None",
    "--json": "False",
    "-q, --quiet": "False",
    "-v, --verbose": "False",
    "--threads": "None",
}
"""Every option with its default; help says nothing of a switch that is off and of what is left open."""


@pytest.fixture
def help_of_train(stunet, capsys, monkeypatch):
    """Line by line, without frames."""
    monkeypatch.setenv("COLUMNS", "110")  # one column of options
    assert stunet("train", "--help") == 0
    return [re.sub("[│╭╮╰╯─]", " ", line).rstrip() for line in capsys.readouterr().out.splitlines()]


def test_the_options_and_their_defaults_stay(help_of_train):
    found: dict[str, str] = {}
    for option in re.split(r"\n {1,3}(?=-\w|--\w)", "\n".join(help_of_train))[1:]:
        names = ", ".join(re.findall(r"(?<!\S)--?[a-z][a-z-]*", re.split("  |\n", option)[0]))
        default = re.search(r"\((?:default:\s+(\w+)|(required))\)", option)
        found[names] = (default[1] or default[2]) if default else ""
    found.pop("-h, --help")
    assert found == {name: "" if default in ("None", "False", "True") else default for name, default in OPTIONS.items()}


def test_the_help_has_a_heading_for_each_group(help_of_train):
    headings = [line.strip().removesuffix(" options") for line in help_of_train if line.endswith(" options")]
    assert headings == ["options", "task", "start", "schedule", "augmentation", "hardware", "logging"]


def test_the_command_line_needs_no_torch():
    """Neither it nor the settings that it nests."""
    code = "import sys, stunet.cli.main; sys.exit('torch' in sys.modules or 'nnunetv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_python_m_stunet_is_the_command():
    finished = subprocess.run([sys.executable, "-m", "stunet", "train"], capture_output=True, text=True)
    assert finished.returncode == 2 and "--dataset" in finished.stderr + finished.stdout


def reports(stunet, monkeypatch, *options, then=None):
    """Runs `stunet train` on a training that only notes its settings."""
    import stunet.training.run as run
    from stunet.training.run import TrainingResult

    asked = []

    def train(settings, on_step, on_transfer, on_start):
        asked.append(settings)
        on_start()
        if then is not None:
            raise then
        return TrainingResult(Path("model"), 0.9, {"1": 0.9, "2": None}, 1.0)

    monkeypatch.setattr(run, "train", train)
    return stunet("train", "-d", 4, *options), asked[0]


def test_a_recipe_is_printed_and_overridden(stunet, capsys, monkeypatch, no_variables):
    options = ["--recipe", "pretrain", "--epochs", 40, "--lr", 0.001, "--no-augment-mirror", "--batch-size", 3]
    code, settings = reports(stunet, monkeypatch, *options, "--patch", 32, 40, 48, "--no-paper-transforms", "--json")
    recipe = recipe_for(settings)
    assert code == 0
    assert (recipe.name, recipe.epochs, recipe.learning_rate, recipe.mirror) == ("pretrain", 40, 0.001, False)
    assert (recipe.batch_size, recipe.patch, recipe.paper_transforms) == (3, (32, 40, 48), False)
    captured = capsys.readouterr()
    assert "name: pretrain" in captured.err and "mirror: off" in captured.err and "momentum: 0.99" in captured.err
    assert json.loads(captured.out)["validation_dsc"] == 0.9


def test_another_network_has_its_own_recipe(stunet, capsys, monkeypatch, no_variables):
    _, settings = reports(stunet, monkeypatch, "--network", "unetr_b", "--epochs", 40)
    recipe = recipe_for(settings)
    assert (settings.task.size, recipe.name, recipe.epochs) == ("unetr_b", "unetr", 40)
    assert "optimizer: adamw" in capsys.readouterr().err


def test_how_a_step_is_computed(stunet, monkeypatch, no_variables):
    options = ["--accumulate", 2, "--checkpoint-activations", "--compile", "on", "--precision", "bfloat16"]
    _, settings = reports(stunet, monkeypatch, *options, "--save-every", 2, "--picture-every", 0)
    hardware, logging = settings.hardware, settings.logging
    assert (hardware.accumulate, hardware.checkpoint_activations, hardware.compile) == (2, True, "on")
    assert (hardware.precision, logging.save_every, logging.picture_every) == ("bfloat16", 2, 0)


def test_a_training_that_was_told_to_stop(stunet, capsys, monkeypatch, no_variables):
    from stunet.training.stopping import TrainingStopped

    code, _ = reports(stunet, monkeypatch, then=TrainingStopped("told to stop after step 7"))
    assert code == 143
    assert "stunet: told to stop after step 7" in capsys.readouterr().err


def test_a_step_in_a_line():
    pytest.importorskip("nnunetv2")
    from stunet.training.throughput import StepReport

    report = StepReport(7, 100, 0, 0.51239, 0.8765, 0.01, 3.456, 0.12345, 0.4321, 4000.4)
    assert spoken_report(report) == (
        "loss 0.5124, pseudo-Dice 0.876, 3.46 samples/s, 0.123 TFLOP/s (43% of peak), 1:06:40 left"
    )
    first = StepReport(1, 100, 0, 1.0, None, 0.01, 3.0, 0.1, None, None)
    assert spoken_report(first) == "loss 1.0000, 3.00 samples/s, 0.1 TFLOP/s"


def test_the_report_of_a_transfer_is_a_table_on_stderr(capsys):
    network, card = samples.network(), samples.card()
    task = Task(("background", "liver", "class_2"), ("T1", "T2"), None)
    new = build(network_spec("tiny", 2, 3))
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
    assert stunet("prepare", "-d", 4, "--size", "tiny", "--workers", 1, "--json") == 0
    assert json.loads(capfd.readouterr().out)["cases"] == 5
    options = ["--size", "tiny", "--epochs", 1, "--iterations", 1, "--workers", 0, "--json"]
    assert stunet("train", "-d", 4, *options) == 0
    captured = capfd.readouterr()
    result = json.loads(captured.out)
    assert "Training done." in captured.err
    assert result["next"].startswith("stunet predict -m ")
    scan = tmp_path / "stunet_home" / "raw" / DATASET / "imagesTr" / "hippocampus_001_0000.nii.gz"
    assert stunet("predict", "-m", result["model_folder"], "-f", 0, "-i", scan, "-o", tmp_path / "labels.nii.gz") == 0


def test_what_fold_all_scores_is_named_so_and_an_absent_label_is_null(stunet, capsys, monkeypatch, no_variables):
    assert reports(stunet, monkeypatch, "-f", "all", "--json")[0] == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out)
    assert summary["dsc_on_training_cases"] == 0.9
    assert "validation_dsc" not in summary
    assert summary["dsc_per_label"] == {"1": 0.9, "2": None}
    assert "No case of this fold has the label 2" in captured.err


def test_several_gpus_where_there_is_none(stunet, capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert stunet("train", "-d", 4, "--gpus", 2) == 2
    assert "There is no GPU here for --gpus 2" in capsys.readouterr().err


def test_each_fold_of_several_has_processes_of_its_own(stunet, capsys, monkeypatch, no_variables):
    """They print no result: on stdout there is one, of all folds. One that fails ends the command with its code."""
    launched = []

    def launch(function, command, processes):
        launched.append((command, processes))
        return 0 if len(launched) == 1 else 143

    def cross_validate(settings, folds, train_fold):
        for fold in folds:
            train_fold(replace(settings, task=replace(settings.task, fold=fold)))

    monkeypatch.setattr("stunet.training.launch.launch", launch)
    monkeypatch.setattr("stunet.training.cross_validation.cross_validate", cross_validate)
    assert stunet("train", "-d", 4, "-f", 1, 3, 4, "--gpus", 2, "--device", "cpu", "--json") == 143
    assert [(command.folds, command.settings.task.fold, command.gpus) for command, _ in launched] == [
        ((1,), 1, 1),
        ((3,), 3, 1),
    ]
    assert [processes for _, processes in launched] == [2, 2]
    launched[0][0]._print_result(None, 1)
    assert capsys.readouterr().out == ""
