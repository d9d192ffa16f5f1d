"""A whole run, as short as can be: two epochs of two iterations on ten real cases."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss

from stunet.errors import NotEnoughMemoryError, OutputError, UserError
from stunet.folders import nnunet_folders
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.training.planners import find_configuration
from stunet.training.precision import resolve_precision
from stunet.training.run import RECORD_NAME, _check_machine, build_trainer, read_result, train
from stunet.training.settings import TrainingSettings
from stunet.training.trainer import STUNetTrainer
from tests.training.conftest import DATASET, environment
from tests.training.options import changed, settings_of

SETTINGS = settings_of("tiny", epochs=2, iterations_per_epoch=2, precision="float32")


@pytest.fixture(scope="module")
def run(prepared_home):
    """One run, with the iterations that it announced."""
    announced: list[int] = []
    with environment(prepared_home):
        result = train(SETTINGS, lambda report: announced.append(report.step))
    return result, announced


def weights_in(fold: Path) -> dict[str, torch.Tensor]:
    return torch.load(fold / "checkpoint_final.pth", weights_only=False)["network_weights"]


def test_it_leaves_what_nnunet_leaves(run):
    result, announced = run
    assert result.model_folder.name == "STUNetTrainer_tiny__STUNetPlans_tiny__3d_fullres"
    names = {path.name for path in result.model_folder.iterdir()}
    assert {"plans.json", "dataset.json", "dataset_fingerprint.json", "fold_0"} <= names
    names = {path.name for path in (result.model_folder / "fold_0").iterdir()}
    assert {"checkpoint_final.pth", "checkpoint_best.pth", "progress.png", "debug.json", "validation"} <= names
    assert {"stunet_checkpoint", "stunet_log.jsonl", "validation_patch.png"} <= names
    assert len(list((result.model_folder / "fold_0" / "validation").glob("*.nii.gz"))) == 2
    assert announced == [1, 2, 3, 4]
    assert set(result.dsc_per_label) == {"1", "2"}
    assert 0 <= result.validation_dsc <= 1


def test_it_leaves_a_record(run):
    result, _ = run
    record = json.loads((result.model_folder / "fold_0" / RECORD_NAME).read_text())
    assert record["finished"] and record["seconds"] > 0
    assert (record["iterations"], record["batch_size"], record["weight_decay"]) == (4, 2, 1e-3)
    assert record["settings"]["seed"] == 0
    assert record["versions"]["nnunetv2"].startswith("2.8")


def test_nnunets_predictor_and_ours_agree_on_the_folder(run, home, shared_data, monkeypatch):
    result, _ = run
    scan = shared_data / DATASET / "imagesTr" / "hippocampus_014_0000.nii.gz"
    theirs = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
    theirs.initialize_from_trained_model_folder(str(result.model_folder), (0,), "checkpoint_final.pth")
    monkeypatch.setattr(torch, "half", torch.float32)  # nnU-Net's sums, which in half precision decide near ties
    expected = theirs.predict_single_npy_array(*SimpleITKIO().read_images([str(scan)]))
    found = Predictor(result.model_folder, InferenceConfig(precision="float32")).predict(scan).labels
    equal = (found == expected).mean()
    print(f"equal voxels: {equal:.6f}, labels {np.unique(found)}")
    assert equal >= 0.9995


def test_what_is_there_is_not_overwritten(run, home):
    with pytest.raises(UserError, match=r"already contains stunet_checkpoint.*--resume"):
        train(SETTINGS)


def test_a_finished_run_is_not_resumed(run, home):
    with pytest.raises(UserError, match="is finished"):
        train(changed(SETTINGS, resume=True))


def test_a_finished_run_goes_on_for_more_epochs(run, home):
    longer = changed(SETTINGS, epochs=3, resume=True)
    trainer = build_trainer(longer, nnunet_folders())
    assert (trainer.current_epoch, trainer.num_epochs) == (2, 3)


def test_a_run_goes_on_at_another_learning_rate(run, home, caplog):
    slower = changed(SETTINGS, resume=True, epochs=3, learning_rate=1e-4)
    trainer = build_trainer(slower, nnunet_folders())
    assert "started with learning rate 0.01 and continues with 0.0001" in caplog.text
    trainer.on_train_epoch_start()
    assert trainer.optimizer.param_groups[0]["lr"] == pytest.approx(1e-4 * (1 - 2 / 3) ** 0.9)
    with pytest.raises(UserError, match="started with seed 0, not 1"):
        build_trainer(changed(slower, seed=1), nnunet_folders())


def test_a_run_goes_on_with_the_augmentation_it_had(run, home):
    longer = changed(SETTINGS, epochs=3, mirror=False, resume=True)
    with pytest.raises(UserError, match="started with mirror on, not off"):
        build_trainer(longer, nnunet_folders())


@pytest.mark.slow
def test_a_model_trained_without_mirroring_is_not_used_with_it(home, shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    result = train(changed(SETTINGS, epochs=1, mirror=False))
    assert not json.loads((result.model_folder / "fold_0" / RECORD_NAME).read_text())["settings"]["recipe"]["mirror"]
    with pytest.raises(UserError, match="mirror"):
        Predictor(result.model_folder, InferenceConfig(mirror=True))


def test_nothing_to_resume(home):
    with pytest.raises(UserError, match=r"nothing to resume in .*fold_3"):
        train(changed(SETTINGS, fold=3, resume=True))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"size": "gigantic"}, "no network 'gigantic'"),
        ({"size": "huge"}, "stunet prepare -d 4 --size huge"),
        ({"device": "tpu"}, "no device 'tpu'.*auto, cpu"),
        ({"fold": "most"}, "A fold is .* not 'most'"),
        ({"configuration": "2d"}, "no configuration '2d', only: 3d_fullres"),
        ({"epochs": 0}, "1 or more"),
        ({"fold": 7}, "no fold 7.*5 folds"),
        ({"workers": -1}, "--workers must be 0 or more"),
        ({"dataset": "9"}, "no folder Dataset009"),
    ],
)
def test_settings_with_which_nothing_can_be_trained(home, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        train(changed(SETTINGS, **changes))


def test_a_full_disk_is_found_before_anything_is_loaded(home, monkeypatch):
    def refuse(folder):
        raise OutputError(f"{folder}: cannot be written to")

    monkeypatch.setattr("stunet.training.run.require_writable", refuse)
    monkeypatch.setattr("stunet.training.run.build_trainer", None)
    with pytest.raises(OutputError, match=f"{home / 'results'}: cannot be written to"):
        train(SETTINGS)


def test_too_few_cases_or_none(prepared_home, tmp_path):
    prepared = tmp_path / "preprocessed" / DATASET
    images = prepared / "STUNetPlans_3d_fullres"
    images.mkdir(parents=True)
    for name in ("STUNetPlans_tiny.json", "dataset.json"):
        shutil.copy(prepared_home / "preprocessed" / DATASET / name, prepared)
    with environment(tmp_path):
        with pytest.raises(UserError, match=r"no preprocessed images.*stunet prepare -d 4 --size tiny -c 3d_fullres"):
            train(SETTINGS)
        for number in range(4):
            (images / f"{number}.pkl").touch()
        with pytest.raises(UserError, match=r"has 4 cases, too few for 5 folds.*-f all"):
            train(SETTINGS)


def interrupted_run(settings: TrainingSettings, after: int) -> None:
    def interrupt(report) -> None:
        if report.step == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings, interrupt)


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one(run, home, monkeypatch, tmp_path):
    """With its validation; at every step: test_resume.py."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    interrupted_run(changed(SETTINGS, save_every=1), after=3)
    fold = tmp_path / DATASET / "STUNetTrainer_tiny__STUNetPlans_tiny__3d_fullres" / "fold_0"
    assert not json.loads((fold / RECORD_NAME).read_text())["finished"]
    with pytest.raises(UserError, match=r"already contains stunet_checkpoint"):
        train(SETTINGS)
    for change, sentence in (
        ({"epochs": 1}, "started with epochs 2, not 1"),
        ({"iterations_per_epoch": 3}, "started with iterations per epoch 2, not 3"),
        ({"batch_size": 1}, "started with batch size of the plan, not 1"),
    ):
        with pytest.raises(UserError, match=sentence):
            train(changed(SETTINGS, **change, resume=True))
    announced: list[int] = []
    resumed = train(changed(SETTINGS, resume=True, save_every=1), lambda report: announced.append(report.step))
    assert announced == [3, 4]
    expected, found = weights_in(run[0].model_folder / "fold_0"), weights_in(resumed.model_folder / "fold_0")
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert resumed.dsc_per_label == run[0].dsc_per_label


@pytest.mark.slow
def test_another_seed_gives_other_weights_and_an_interrupted_validation_is_made_up_for(
    run, home, monkeypatch, tmp_path
):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    settings = changed(SETTINGS, seed=1, fold=1, epochs=1)
    trained = train(settings)
    fold = trained.model_folder / "fold_1"
    assert not torch.equal(
        *(w["encoder.stages.0.0.conv1.weight"] for w in (weights_in(fold), weights_in(run[0].model_folder / "fold_0")))
    )
    (fold / "validation" / "summary.json").unlink()
    announced: list[int] = []
    assert (
        train(changed(settings, resume=True), lambda report: announced.append(report.step)).dsc_per_label
        == trained.dsc_per_label
    )
    assert announced == []


def test_full_precision_is_possible_on_a_gpu(home, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    settings = changed(SETTINGS, device="cuda", precision="float32")
    _check_machine(settings.hardware)  # refuses what is not possible
    assert resolve_precision(settings.hardware.precision, torch.device("cuda")) == "float32"
    with pytest.raises(UserError, match="no device 'cuda:7'"):
        _check_machine(changed(settings, device="cuda:7").hardware)


@pytest.mark.parametrize(
    ("stage", "remedy"), [("build_trainer", "smaller --size"), ("validation", "--validate-only last")]
)
def test_a_gpu_that_is_full_outside_the_steps(prepared_home, tmp_path, monkeypatch, stage, remedy):
    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    target = "stunet.training.run.build_trainer"
    if stage == "validation":
        target = "stunet.training.trainer.STUNetTrainer.perform_actual_validation"
    with environment(prepared_home), pytest.raises(NotEnoughMemoryError, match=remedy):
        monkeypatch.setenv("nnUNet_results", str(tmp_path))
        monkeypatch.setattr(target, fill)
        train(changed(SETTINGS, epochs=1, iterations_per_epoch=1))


def test_a_label_that_no_validation_case_holds(tmp_path):
    """nnU-Net writes NaN for it, and for the mean with it."""
    (tmp_path / "validation").mkdir()
    mean = {"1": {"Dice": 0.25}, "2": {"Dice": 0.75}, "3": {"Dice": math.nan}}
    summary = {"mean": mean, "foreground_mean": {"Dice": math.nan}}
    (tmp_path / "validation" / "summary.json").write_text(json.dumps(summary))
    result = read_result(tmp_path / "validation" / "summary.json", 1.0)
    assert (result.validation_dsc, result.dsc_per_label) == (0.5, {"1": 0.25, "2": 0.75, "3": None})


@pytest.mark.parametrize(
    ("added", "chosen", "sentence"),
    [
        ({"inherits_from": "3d_fullres", "batch_size": 4}, "mine", None),
        ({"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}, "mine", "second stage of a cascade"),
        ({"inherits_from": "missing"}, "mine", "wrong 'inherits_from' in 'mine'.*missing"),
        ({"inherits_from": "mine"}, "mine", "wrong 'inherits_from' in 'mine'"),
        ({"batch_size": 4}, "mine", r"has no .*inherits_from"),
        ({"inherits_from": "3d_fullres", "patch_size": [32, 32]}, "mine", "is a 2D configuration"),
    ],
)
def test_a_configuration_that_inherits(home, added, chosen, sentence):
    plans = json.loads((home / "preprocessed" / DATASET / "STUNetPlans_tiny.json").read_text())
    plans["configurations"][chosen] = added
    if sentence is None:
        found = find_configuration(plans, chosen, DATASET)
        assert found == {**plans["configurations"]["3d_fullres"], **added}
        return
    with pytest.raises(UserError, match=sentence):
        find_configuration(plans, chosen, DATASET)


def test_patience_ends_a_training_that_gets_no_better(prepared_home, tmp_path, monkeypatch):
    """Of a network that hits nothing the pseudo-Dice stays 0: the first epoch, and two without a better one."""
    validate = STUNetTrainer.validation_step

    def nothing_hit(trainer, batch):
        outputs = validate(trainer, batch)
        return {**outputs, "tp_hard": 0 * outputs["tp_hard"]}

    monkeypatch.setattr(STUNetTrainer, "validation_step", nothing_hit)
    with environment(prepared_home):
        monkeypatch.setenv("nnUNet_results", str(tmp_path))
        settings = changed(SETTINGS, epochs=9, iterations_per_epoch=1, patience=2, picture_every=0)
        fold = train(settings).model_folder / "fold_0"
        averages = torch.load(fold / "checkpoint_final.pth", weights_only=False)["logging"]["ema_fg_dice"]
        assert averages == [0, 0, 0]
        with pytest.raises(UserError, match="is finished"):
            train(changed(settings, resume=True))


def test_weights_of_classes(home):
    loss = build_trainer(changed(SETTINGS, class_weights=(0.5, 1.0, 2.0), fold=4), nnunet_folders()).loss
    logits = torch.randn(2, 3, 8, 8, 8)
    target = torch.randint(0, 3, (2, 1, 8, 8, 8)).float()
    expected = torch.nn.functional.cross_entropy(logits, target[:, 0].long(), torch.tensor([0.5, 1.0, 2.0]))
    parts = [module for module in loss.modules() if isinstance(module, DC_and_CE_loss)]
    assert parts and all(part.ce(logits, target).item() == pytest.approx(expected.item()) for part in parts)


@pytest.mark.parametrize(("weights", "sentence"), [((1.0, 2.0), "2 numbers; the dataset has 3")])
def test_weights_of_other_classes(home, weights, sentence):
    with pytest.raises(UserError, match=sentence):
        build_trainer(changed(SETTINGS, class_weights=weights, fold=4), nnunet_folders())


def test_as_much_foreground_as_nnunet(home):
    trainer = build_trainer(changed(SETTINGS, fold=4), nnunet_folders())
    assert trainer.recipe.foreground == trainer.oversample_foreground_percent == 0.33


def test_more_foreground(home):
    trainer = build_trainer(changed(SETTINGS, foreground=1.0, batch_size=4, fold=4), nnunet_folders())
    batch = next(trainer.get_dataloaders()[0])
    assert all((sample > 0).any() for sample in batch["target"][0])
