"""Fine-tuning: how it starts, what learns at which rate, and a whole run from the published kind of weights."""

import json
from dataclasses import replace

import pytest
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from stunet.cli.main import run
from stunet.errors import UserError
from stunet.folders import nnunet_folders
from stunet.networks.stunet import STUNet
from stunet.training.recipes import FLAT_LEARNING_RATE, RECIPES
from stunet.training.run import RECORD_NAME, build_trainer, train
from stunet.training.settings import StartSettings
from stunet.training.start import TRANSFER_NAME, size_of, start_from, task_of
from stunet.weights.model import load_model
from stunet.weights.transfer import replace_head
from tests.training.batches import steps
from tests.training.conftest import DATASET, environment
from tests.training.options import changed, settings_of
from tests.weights import samples

FINETUNE = RECIPES["finetune"]

LEARNING = {
    name for name in samples.network().state_dict() if name.endswith("weight") and name != "decoder.seg_layers.0.weight"
}
"""What changes in a step: not biases before a norm, nor the head of the lowest resolution, to which nnU-Net gives no
weight in its loss."""


@pytest.fixture
def fine_tuner(build):
    """Makes an initialised trainer that follows a recipe."""

    def make(recipe):
        trainer = build("STUNetTrainer_tiny_ft", "STUNetPlans_tiny")
        trainer.follow(recipe)
        trainer.settings = changed(trainer.settings, precision="float32")
        trainer.initialize()
        return trainer

    return make


def copied(network):
    return {key: value.clone() for key, value in network.state_dict().items()}


# What learns, and how fast


def test_a_frozen_encoder_stays_as_it_is_to_the_bit(fine_tuner):
    trainer = fine_tuner(replace(FINETUNE, freeze_encoder=True))
    before = copied(trainer.network)
    steps(trainer, 2)
    parameters = dict(trainer.network.named_parameters())
    learning = {id(p) for group in trainer.optimizer.param_groups for p in group["params"]}
    for name, value in trainer.network.state_dict().items():
        is_encoder = name.startswith("encoder.")
        if is_encoder or name in LEARNING:
            assert torch.equal(value, before[name]) == is_encoder, name
            assert (parameters[name].grad is None) == is_encoder, name
        assert (id(parameters[name]) in learning) != is_encoder, name
    assert not any(parameters[name] in trainer.optimizer.state for name in parameters if name.startswith("encoder."))


def test_without_freezing_the_encoder_learns(fine_tuner):
    trainer = fine_tuner(FINETUNE)
    before = copied(trainer.network)
    steps(trainer, 1)
    assert not any(torch.equal(trainer.network.state_dict()[name], before[name]) for name in LEARNING)


def test_the_official_codes_flat_rate(fine_tuner):
    trainer = fine_tuner(FINETUNE.at_one_rate())
    (group,) = trainer.optimizer.param_groups
    assert group["lr"] == FLAT_LEARNING_RATE == 1e-3
    assert len(group["params"]) == len(list(trainer.network.parameters()))
    trainer.lr_scheduler.step(500)
    assert group["lr"] == pytest.approx(1e-3 * 0.5**0.9)
    with pytest.raises(UserError, match="give --from"):
        RECIPES["scratch"].at_one_rate()


# How it starts


def test_the_bundled_model_into_its_own_task(fine_tuner):
    """The hippocampus model names the classes of the hippocampus dataset, so its head can be kept, whole."""
    trainer = fine_tuner(FINETUNE)
    task = task_of(trainer)
    assert (task.labels, task.channels) == (("background", "Anterior", "Posterior"), ("MRI",))
    report = start_from(trainer, StartSettings("hippocampus", keep_head=True))
    assert report.parameters_kept == report.parameters and report.rows_kept == task.labels
    expected = load_model("hippocampus").networks[0].state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in trainer.network.state_dict().items())


def test_the_new_head_follows_from_the_runs_seed(fine_tuner):
    trainer = fine_tuner(FINETUNE)
    trainer.settings = changed(trainer.settings, seed=7)
    start_from(trainer, StartSettings("hippocampus"))
    expected = replace_head({}, trainer.network, seed=7)
    assert all(torch.equal(trainer.network.state_dict()[key], value) for key, value in expected.items())
    assert trainer.network.decoder.seg_layers[4].weight.requires_grad


def test_regions_and_odd_plans_do_not_stand_in_the_way(fine_tuner, monkeypatch):
    trainer = fine_tuner(FINETUNE)
    monkeypatch.setattr(type(trainer.label_manager), "has_regions", property(lambda self: True))
    trainer.dataset_json["labels"] = {"background": 0, "Hippocampus": [1, 2], "Posterior": 2}
    trainer.dataset_json["regions_class_order"] = [1, 2]
    trainer.plans_manager.plans["configurations"]["3d_fullres"]["preprocessor_name"] = "MyPreprocessor"
    task = task_of(trainer)
    assert task.labels == () and task.preprocessing is None
    assert start_from(trainer, StartSettings("hippocampus")).rows_new == ()


def test_a_size_that_does_not_fit_is_refused(fine_tuner, tmp_path):
    file = samples.write_v1(tmp_path / "small_ep4k.model", samples.network("small", 1, 105).state_dict())
    assert (size_of(str(file)), size_of("hippocampus")) == ("small", "tiny")
    with pytest.raises(UserError, match=r"for size small \(width 16, depth 1\), but this network is tiny \(width 8"):
        start_from(fine_tuner(FINETUNE), StartSettings(str(file)))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--keep-head"], "give --from, too"),
        (["--divide-channels"], "give --from, too"),
        (["--flat-lr"], "give --from, or --recipe finetune"),
        (["--from", "bse"], "There is no model 'bse'"),
    ],
)
def test_options_that_say_nothing_alone(home, capsys, options, sentence):
    assert run(["train", "-d", "4", *options]) == 2
    assert sentence in capsys.readouterr().err


# A whole run (issues 22 and 31: fine-tuning on other data)


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A `.model` with the official names, 1 channel and 105 classes."""
    path = tmp_path_factory.mktemp("published") / "small_ep4k.model"
    return samples.write_v1(path, samples.network("small", 1, 105).state_dict())


@pytest.fixture(scope="module")
def finished(two_channel_home, published, tmp_path_factory):
    """`stunet train --from` of the published kind of weights, on three classes and two channels."""
    results = tmp_path_factory.mktemp("results")
    with environment(two_channel_home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(results))
        options = ["--epochs", "1", "--iterations", "2", "--workers", "0", "--freeze", "encoder", "--divide-channels"]
        assert run(["train", "-d", "4", "--from", str(published), *options, "--json"]) == 0
    return results / DATASET / "STUNetTrainer_small_ft__STUNetPlans_small__3d_fullres"


def test_what_a_run_from_published_weights_leaves(finished, published):
    fold = finished / "fold_0"
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "STUNetTrainer_small_ft"
    source = samples.network("small", 1, 105).state_dict()
    for key, value in checkpoint["network_weights"].items():
        if key in STUNet.stem_keys:
            assert torch.equal(value, source[key].repeat(1, 2, 1, 1, 1) / 2)
        elif key.startswith("encoder."):
            assert torch.equal(value, source[key]), f"{key} was frozen"
        elif "seg_layers" not in key:
            assert 0 < (value - source[key]).abs().max() < 0.1, f"{key} learns a little"
    report = json.loads((fold / TRANSFER_NAME).read_text())
    assert report["start"] == str(published) and report["source"] == "small_ep4k"
    assert report["replicated"] == list(STUNet.stem_keys) and report["channels"] == [["MRI", "CT"], ["CT", "CT"]]
    assert report["source_strides"][-1] == [1, 1, 2] and report["strides"][-1] == [1, 1, 1]
    remarks = " ".join(report["remarks"])
    assert "Strides differ" in remarks and "voxels of 1.5 x 1.5 x 1.5 mm" in remarks
    assert "CT: the source saw the z-score of each scan, this task gives values clipped" in remarks
    settings = json.loads((fold / RECORD_NAME).read_text())["settings"]
    assert settings["start"]["model"] == str(published) and settings["recipe"]["name"] == "finetune"
    assert (fold / "validation" / "summary.json").is_file()


def test_nnunets_predictor_loads_what_was_fine_tuned(finished, two_channel_home):
    with environment(two_channel_home):
        predictor = nnUNetPredictor(device=torch.device("cpu"), allow_tqdm=False)
        predictor.initialize_from_trained_model_folder(str(finished), (0,), "checkpoint_final.pth")
    assert predictor.network.input_channels == 2


def test_ours_loads_it_and_it_can_be_a_start_again(finished):
    assert load_model(finished).card.labels == ("background", "Anterior", "Posterior")
    assert size_of(str(finished)) == "small"


def settings_from(published, **changes):
    """A fine-tuning from `published` with the numbers of the run that is `finished`, but for one epoch more."""
    start = {"model": str(published), "divide_channels": True, "recipe": "finetune"}
    return settings_of("small", **start, epochs=2, iterations_per_epoch=2, freeze="encoder", **changes)


def test_a_fine_tuning_is_resumed_with_the_same_from(finished, published, two_channel_home, monkeypatch):
    """Its weights then come from the checkpoint, which the file given by --from cannot change."""
    with environment(two_channel_home):
        monkeypatch.setenv("nnUNet_results", str(finished.parents[1]))
        settings = settings_from(published, resume=True)
        trainer = build_trainer(settings, nnunet_folders())
        expected = torch.load(finished / "fold_0" / "checkpoint_final.pth", weights_only=False)["network_weights"]
        assert trainer.current_epoch == 1
        assert all(torch.equal(value, expected[key]) for key, value in trainer.network.state_dict().items())
        for start, said in (
            (StartSettings(), "not with random weights"),
            (StartSettings("base"), "not with --from base"),
            (StartSettings(str(published), keep_head=True), r"not with --from \S*small_ep4k.model --keep-head"),
        ):
            with pytest.raises(UserError, match=rf"started with --from \S*small_ep4k.model --divide-channels, {said}"):
                train(replace(settings, start=start))
        with pytest.raises(UserError, match="started with freeze encoder on, not off"):
            train(changed(settings, freeze="nothing"))
