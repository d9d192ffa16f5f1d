"""The systems that the paper compares with: planned, trained by our trainer on the same images, and read by both."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from stunet.errors import UserError
from stunet.folders import nnunet_folders
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.training.prepare import prepare
from stunet.training.recipes import recipe_of
from stunet.training.run import TrainingResult, build_trainer, train
from stunet.training.settings import TrainingSettings
from stunet.weights.model import load_model
from stunet.weights.model_file import build_network_from, read_model, save_model
from tests.training.conftest import DATASET, environment
from tests.training.options import changed, settings_of

SYSTEMS = [
    "nnunet_tiny",
    "unet3d_tiny",
    "unetr_tiny",
    "nnformer_tiny",
    pytest.param("swin_unetr_tiny", marks=pytest.mark.slow),  # validates for most of a minute
]
SMALLEST = {"swin_unetr_tiny": (32, 64, 32), "nnformer_tiny": (32, 64, 32)}


def settings_for(name: str, **changes: object) -> TrainingSettings:
    patch = SMALLEST.get(name, (32, 32, 32))
    settings = settings_of(name, epochs=1, iterations_per_epoch=2, batch_size=2, patch=patch, precision="float32")
    return changed(settings, **changes)


@pytest.fixture(scope="module")
def runs(prepared_home: Path, tmp_path_factory: pytest.TempPathFactory):
    """Trains each system once, when it is first asked for."""
    results = tmp_path_factory.mktemp("systems")
    done: dict[str, TrainingResult] = {}

    def run(name: str) -> TrainingResult:
        if "unetr" in name:
            pytest.importorskip("monai")
        if name not in done:
            with environment(prepared_home), pytest.MonkeyPatch.context() as patch:
                patch.setenv("nnUNet_results", str(results))
                prepare("4", name, processes=1)
                done[name] = train(settings_for(name))
        return done[name]

    return run


@pytest.mark.parametrize("name", SYSTEMS)
def test_it_trains_by_its_recipe_and_is_validated(runs, name):
    result = runs(name)
    assert result.model_folder.name == f"STUNetTrainer__STUNetPlans_{name}__3d_fullres"
    record = json.loads((result.model_folder / "fold_0" / "stunet_run.json").read_text())
    assert record["finished"] and record["settings"]["recipe"]["name"] == recipe_of(name).name
    steps = [
        json.loads(line) for line in (result.model_folder / "fold_0" / "stunet_log.jsonl").read_text().splitlines()
    ]
    assert all(np.isfinite(step["loss"]) for step in steps if "loss" in step)
    assert set(result.dsc_per_label) == {"1", "2"}


@pytest.mark.parametrize("name", SYSTEMS)
def test_nnunets_predictor_and_ours_agree_on_its_folder(runs, shared_data, monkeypatch, name):
    folder = runs(name).model_folder
    scan = shared_data / DATASET / "imagesTr" / "hippocampus_014_0000.nii.gz"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_extTrainer", str(Path(__file__).parents[2] / "src/stunet/training/nnunet_names"))
        theirs = nnUNetPredictor(use_mirroring=False, device=torch.device("cpu"), allow_tqdm=False)
        theirs.initialize_from_trained_model_folder(str(folder), (0,), "checkpoint_final.pth")
        patch.setattr(torch, "half", torch.float32)  # nnU-Net's sums, which in half precision decide near ties
        expected = theirs.predict_single_npy_array(*SimpleITKIO().read_images([str(scan)]))
    found = Predictor(folder, InferenceConfig(precision="float32")).predict(scan).labels
    equal = (found == expected).mean()
    print(f"{name}: equal voxels {equal:.6f}, labels {np.unique(found)}")
    assert equal >= 0.9995


@pytest.mark.parametrize("name", SYSTEMS)
def test_one_file_holds_all_of_it(runs, tmp_path, name):
    model = load_model(runs(name).model_folder)
    assert model.card.network.kind != "stunet"
    path = tmp_path / "model.safetensors"
    save_model(path, model.networks[0].state_dict(), model.card)
    state_dict, card = read_model(path)
    assert card.network.kind == name.removesuffix("_tiny")
    network = build_network_from(card, state_dict)
    expected = model.networks[0].state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in network.state_dict().items())
    image = torch.randn(1, 1, *model.plan.patch_size)
    with torch.no_grad():
        torch.testing.assert_close(network(image), model.networks[0](image), rtol=1e-3, atol=1e-4)


def test_the_plans_differ_in_the_network_and_the_patch_only(prepared_home, runs):
    runs("unetr_tiny"), runs("nnunet_tiny")
    plans = prepared_home / "preprocessed" / DATASET
    theirs = json.loads((plans / "nnUNetPlans.json").read_text())["configurations"]["3d_fullres"]
    for name, patch in (("nnunet_tiny", [40, 56, 40]), ("unetr_tiny", [48, 64, 48])):
        ours = json.loads((plans / f"STUNetPlans_{name}.json").read_text())["configurations"]["3d_fullres"]
        assert ours.pop("patch_size") == patch
        architecture = ours.pop("architecture")
        expected = {key: value for key, value in theirs.items() if key not in ("patch_size", "architecture")}
        assert {**ours, "data_identifier": expected["data_identifier"]} == expected
        if name == "nnunet_tiny":
            for key in ("strides", "kernel_sizes"):
                assert architecture["arch_kwargs"][key] == theirs["architecture"]["arch_kwargs"][key]


def test_a_patch_that_does_not_fit_is_answered_with_the_multiples(home, runs):
    runs("unetr_tiny")
    with pytest.raises(UserError, match=r"40 x 56 x 40.*must be multiples of 16, 16, 16"):
        build_trainer(settings_for("unetr_tiny", patch=(40, 56, 40)), nnunet_folders())


@pytest.mark.parametrize("options", [{"checkpoint_activations": True}])
def test_what_only_stunets_can_do_is_refused(home, runs, monkeypatch, tmp_path, options):
    runs("unet3d_tiny")
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    with pytest.raises(UserError, match=r"Only STU-Nets"):
        build_trainer(settings_for("unet3d_tiny", **options), nnunet_folders())


def test_other_backends_are_refused(runs):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=r"'onnx' runs only STU-Nets.*--backend torch"):
        Predictor(runs("unet3d_tiny").model_folder, InferenceConfig(backend="onnx"))


def test_an_interrupted_training_with_adamw_goes_on_to_the_bit(home, runs, monkeypatch, tmp_path):
    runs("unetr_tiny")
    settings = settings_for("unetr_tiny", epochs=2, save_every=1)
    weights = []
    for is_stopped in (False, True):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / str(is_stopped)))
        torch.manual_seed(0)
        trainer = build_trainer(settings, nnunet_folders())
        trainer.on_train_start()
        trainer.run_epoch()
        if is_stopped:
            trainer.on_train_end()
            trainer = build_trainer(changed(settings, resume=True), nnunet_folders())
            trainer.on_train_start()
        trainer.run_epoch()
        weights.append({key: value.clone() for key, value in trainer.bare_network.state_dict().items()})
        trainer.on_train_end()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
