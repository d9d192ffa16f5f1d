"""Files written by the code of commit 95875af can be read and give the same results (see their README)."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from stunet import Predictor, load_model, read_volume
from stunet.cli.main import run
from tests.inference.samples import EXACT

FILES = Path(__file__).parent / "written_by_95875af"
ANSWERS = np.load(FILES / "answers.npz")
MODEL_FOLDER = "STUNetTrainer__STUNetPlans_tiny_d2__3d_fullres"
RUN_FOLDER = f"results/Dataset007_Balls/{MODEL_FOLDER}/fold_0"

MODELS = {
    "stunet": FILES / "stunet.safetensors",
    "nnunet": FILES / "nnunet.safetensors",
    "float16": FILES / "float16.safetensors",
    "two_networks": FILES / "two_networks.safetensors",
    "finished": FILES / "finished" / MODEL_FOLDER,
}

RESUME = ["train", "-d", "7", "-f", "0", "--size", "tiny_d2", "--epochs", "3", "--iterations", "2"]
RESUME += ["--patch", "16", "16", "16", "--device", "cpu", "--precision", "float32", "--workers", "0"]
RESUME += ["--save-every", "1", "--picture-every", "0", "--resume"]
"""The options with which the training was started."""

ROUNDING = 1e-4
"""Other processors add float32 numbers in another order: a relative error of 1e-7 per sum, over some tens of layers,
for logits of about 5 and weights of about 1. On the machine that made the files, the difference is 0."""


def need_nnunet() -> None:
    pytest.importorskip("nnunetv2")  # also installs nnU-Net's network


def needed_by(name: str) -> None:
    if name not in ("stunet", "finished"):
        need_nnunet()


def logits_of(source: Path) -> np.ndarray:
    """Logits (N, K, Z, Y, X) of each network at every third voxel of the window that the old code used."""
    window_BCZYX = torch.linspace(-200, 200, 16**3).sin().reshape(1, 1, 16, 16, 16)
    with torch.no_grad():
        logits_NKZYX = torch.cat([network(window_BCZYX) for network in load_model(source).networks])
    return logits_NKZYX[:, :, ::3, ::3, ::3].numpy()


@pytest.mark.parametrize("name", MODELS)
def test_logits(name):
    needed_by(name)
    expected_NKZYX = ANSWERS[f"{name}/logits_NKZYX"]
    np.testing.assert_allclose(logits_of(MODELS[name]), expected_NKZYX, rtol=0, atol=ROUNDING)
    assert np.ptp(expected_NKZYX) > 1000 * ROUNDING  # so that different weights are noticed


@pytest.mark.parametrize("name", MODELS)
def test_labels(name):
    """At up to one voxel in a thousand, classes are so nearly tied that rounding decides."""
    needed_by(name)
    labels_ZYX = Predictor(load_model(MODELS[name]), EXACT).predict(read_volume(FILES / "scan.nii.gz")).labels
    expected_ZYX = ANSWERS[f"{name}/labels_ZYX"]
    assert (labels_ZYX.dtype, labels_ZYX.shape) == (expected_ZYX.dtype, expected_ZYX.shape)
    assert np.mean(labels_ZYX != expected_ZYX) <= 0.001


@pytest.mark.parametrize(("name", "networks"), [("stunet", 1), ("nnunet", 1), ("float16", 1), ("two_networks", 2)])
def test_the_whole_card(name, networks):
    needed_by(name)
    model = load_model(MODELS[name])
    card = model.card
    assert (card.name, len(model.networks)) == (name, networks)
    assert (card.labels, card.channels, card.mirror_axes) == (("background", "liver", "spleen"), ("CT",), (0, 2))
    assert (card.licence, card.source, card.citation) == ("CC0-1.0", "random numbers", "none")
    assert (dict(card.training), dict(card.metrics)) == ({"epochs": 0, "trainer": "none"}, {"dice": 0.5})


def test_half_precision_is_that_of_the_same_weights():
    whole, half = (load_file(MODELS[name]) for name in ("nnunet", "float16"))
    assert all(torch.equal(half[key], tensor.half()) for key, tensor in whole.items())


def test_a_finished_fold_becomes_a_model_file(tmp_path):
    output = tmp_path / "balls.safetensors"
    assert run(["weights", "import", str(MODELS["finished"]), "-o", str(output), "-f", "0"]) == 0
    np.testing.assert_allclose(logits_of(output), ANSWERS["finished/logits_NKZYX"], rtol=0, atol=ROUNDING)
    assert load_model(output).names == {0: "background", 1: "ball"}


def test_a_checkpoint_of_an_unfinished_training_becomes_a_model_file(tmp_path):
    checkpoint, output = FILES / "unfinished" / RUN_FOLDER / "stunet_checkpoint", tmp_path / "balls.safetensors"
    assert run(["weights", "import", str(checkpoint), "-o", str(output)]) == 0
    written, (network,) = load_file(checkpoint / "weights.safetensors"), load_model(output).networks
    assert network.state_dict().keys() == written.keys()
    assert all(torch.equal(tensor, written[key]) for key, tensor in network.state_dict().items())


def test_a_model_file_to_start_a_training_with(tmp_path):
    """`weights export` reads as `train --from` does."""
    output = tmp_path / "stunet.pth"
    assert run(["weights", "export", "-m", str(MODELS["stunet"]), "-o", str(output)]) == 0
    exported, written = torch.load(output, weights_only=True)["network_weights"], load_file(MODELS["stunet"])
    assert exported.keys() == written.keys()
    assert all(torch.equal(tensor, written[key]) for key, tensor in exported.items())


@pytest.fixture
def unfinished(tmp_path):
    """A copy of the unfinished training in the folders of stunet and nnU-Net."""
    need_nnunet()
    from tests.training.conftest import environment

    home = tmp_path / "home"
    shutil.copytree(FILES / "unfinished", home)
    with environment(home):
        yield home


def test_a_training_goes_on_to_the_same_end(unfinished):
    """After three more steps, the weights are those of the old code and far from the initial ones."""
    start = load_file(unfinished / RUN_FOLDER / "stunet_checkpoint" / "weights.safetensors")
    assert run(RESUME) == 0
    end = load_file(unfinished / RUN_FOLDER / "stunet_checkpoint" / "weights.safetensors")
    (expected,) = (network.state_dict() for network in load_model(MODELS["finished"]).networks)
    assert end.keys() == expected.keys()
    for key, tensor in end.items():
        torch.testing.assert_close(tensor, expected[key], rtol=0, atol=ROUNDING)
    assert max(float((expected[key] - tensor).abs().max()) for key, tensor in start.items()) > 100 * ROUNDING
    ours, theirs = (
        json.loads((folder / "validation/summary.json").read_text())["foreground_mean"]["Dice"]
        for folder in (unfinished / RUN_FOLDER, MODELS["finished"] / "fold_0")
    )
    assert ours == pytest.approx(theirs, abs=0.01)


def test_a_training_is_gone_on_with_as_it_was_started(unfinished, capsys):
    assert run([*RESUME, "--seed", "7"]) == 2
    assert "was started with seed 0, not 7" in " ".join(capsys.readouterr().err.split())


def test_the_runs_of_an_experiment_are_not_done_again(tmp_path, capsys):
    folder = tmp_path / "table2"
    shutil.copytree(FILES / "experiment", folder)
    assert run(["experiment", "run", "table2", "-o", str(folder)]) == 2
    assert "already contains the results of count-small" in " ".join(capsys.readouterr().err.split())
    assert run(["experiment", "run", "table2", "-o", str(folder), "--resume"]) == 0
    assert "count-" not in capsys.readouterr().err
    before, after = (json.loads((path / "results.json").read_text()) for path in (FILES / "experiment", folder))
    assert after["measurements"] == before["measurements"]
    assert after["remarks"] == before["remarks"]
