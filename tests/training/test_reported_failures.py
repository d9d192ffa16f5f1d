"""What users of the official code (uni-medical/STU-Net) reported, by the number of its issue.

Each simply works here, or is answered with one sentence.
"""

import inspect
import json
import shlex

import pytest
import torch
from nnunetv2.run.load_pretrained_weights import load_pretrained_weights
from nnunetv2.run.run_training import run_training_entry
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from stunet.cli.main import run
from stunet.errors import UserError
from stunet.networks.stunet import SIZES, STUNet
from stunet.training import trainers
from stunet.weights.checkpoint import to_official_names
from stunet.weights.model import read_pretrained
from tests.training.conftest import DATASET, environment
from tests.weights import samples

OFFICIAL_TRAINERS = [f"STUNetTrainer_{size}{ft}" for size in ("small", "base", "large", "huge") for ft in ("", "_ft")]


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A `.model` with the official names, 1 channel and 105 classes."""
    path = tmp_path_factory.mktemp("published") / "small_ep4k.model"
    return samples.write_v1(path, samples.network("small", 1, 105).state_dict())


@pytest.fixture(scope="module")
def exported(published, tmp_path_factory):
    """The same for nnU-Net's own commands, with two channels."""
    path = tmp_path_factory.mktemp("exported") / "small.pth"
    assert run(["weights", "export", "-m", str(published), "-o", str(path), "--channels", "2"]) == 0
    return path


# Issue 8: the trainer is not found


@pytest.mark.parametrize("name", OFFICIAL_TRAINERS)
def test_8_the_line_that_doctor_prints_lets_nnunet_find_the_trainers(home, monkeypatch, capsys, name):
    monkeypatch.delenv("nnUNet_extTrainer")
    assert run(["doctor", "--nnunet"]) == 0
    export, _, assignment = capsys.readouterr().out.splitlines()[0].partition(" ")
    variable, _, folder = assignment.partition("=")
    assert (export, variable) == ("export", "nnUNet_extTrainer")
    with pytest.raises(RuntimeError, match="Could not find"):
        recursive_find_trainer_class_by_name(name)
    monkeypatch.setenv(variable, shlex.split(folder)[0])
    assert recursive_find_trainer_class_by_name(name) is getattr(trainers, name)


# Issue 20: are the weights made for nnU-Net v2?


def test_20_nnunets_loader_takes_the_exported_weights_and_not_the_published_file(published, exported):
    network = STUNet(2, 3, SIZES["small"].width, SIZES["small"].depth)
    heads = {key: value.clone() for key, value in network.state_dict().items() if "seg_layers" in key}
    with pytest.raises(KeyError, match="network_weights"):
        load_pretrained_weights(network, published)
    load_pretrained_weights(network, exported)
    source = samples.network("small", 1, 105).state_dict()
    for key, value in network.state_dict().items():
        if key in STUNet.stem_keys:
            assert torch.equal(value, source[key].repeat(1, 2, 1, 1, 1))
        else:
            assert torch.equal(value, heads.get(key, source[key])), key


def test_20_one_channel_more_than_exported_is_nnunets_own_sentence(exported):
    with pytest.raises(AssertionError, match=r"shape of the parameters of key encoder.stages.0.0.conv1.weight"):
        load_pretrained_weights(STUNet(3, 3, SIZES["small"].width, SIZES["small"].depth), exported)


# Issue 44: the command is missing, and KeyError: 'pool_op_kernel_sizes'


def test_44_the_command_that_export_prints_fine_tunes_in_nnunet(
    two_channel_home, published, tmp_path, monkeypatch, capsys
):
    """Must run as printed: raw `nnUNetv2_train` with two channels, its own loader, our trainer."""
    started_with = []

    def snapshot(trainer):
        started_with.append({key: value.clone() for key, value in trainer.network.state_dict().items()})
        trainer.num_epochs, trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = 1, 1, 1
        nnUNetTrainer.on_train_start(trainer)

    with environment(two_channel_home):
        monkeypatch.setenv("nnUNet_n_proc_DA", "0")
        monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
        monkeypatch.setattr(trainers.STUNetTrainer, "on_train_start", snapshot)
        monkeypatch.setattr(trainers.STUNetTrainer, "perform_actual_validation", lambda *_: None)  # see test_run.py
        exporting = ["weights", "export", "-m", str(published), "-o", str(tmp_path / "small.pth"), "--channels", "2"]
        assert run([*exporting, "--json"]) == 0
        command = json.loads(capsys.readouterr().out)["next"].replace("DATASET", "4").replace("FOLD", "0")
        monkeypatch.setattr("sys.argv", [*shlex.split(command), "-device", "cpu"])
        run_training_entry()
    source = samples.network("small", 1, 105).state_dict()
    for key, value in started_with[0].items():
        if "seg_layers" not in key:
            assert torch.equal(value[:, :1] if key in STUNet.stem_keys else value, source[key]), key
    folder = tmp_path / "results" / DATASET / "STUNetTrainer_small_ft__STUNetPlans_small__3d_fullres" / "fold_0"
    checkpoint = torch.load(folder / "checkpoint_final.pth", weights_only=False)
    assert checkpoint["trainer_name"] == "STUNetTrainer_small_ft"


def old_plans(plans):
    """As nnU-Net wrote them before 2.4: strides beside the patch size, under the name that the error reports."""
    old = json.loads(json.dumps(plans))
    configuration = old["configurations"]["3d_fullres"]
    strides = configuration.pop("architecture")["arch_kwargs"]["strides"]
    configuration |= {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 32,
        "unet_max_num_features": 320,
        "n_conv_per_stage_encoder": [2] * len(strides),
        "n_conv_per_stage_decoder": [2] * (len(strides) - 1),
        "num_pool_per_axis": [len(strides) - 1] * 3,
        "pool_op_kernel_sizes": strides,
        "conv_kernel_sizes": [[3, 3, 3]] * len(strides),
    }
    return old


@pytest.mark.parametrize("write", [json.loads, lambda text: old_plans(json.loads(text))], ids=["new", "old"])
def test_44_strides_are_found_in_plans_of_both_kinds(home, write):
    file = home / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans = {**write(file.read_text()), "continue_training": False}
    dataset = json.loads((file.parent / "dataset.json").read_text())
    trainer = trainers.STUNetTrainer_small_ft(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    trainer.initialize()
    assert len(trainer._get_deep_supervision_scales()) == 5
    assert trainer.network.strides[1] == (2, 2, 2)


def test_44_plans_without_strides_are_answered_with_a_sentence(home):
    file = home / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans = {**json.loads(file.read_text()), "continue_training": False}
    del plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"]
    dataset = json.loads((file.parent / "dataset.json").read_text())
    trainer = trainers.STUNetTrainer_small_ft(plans, "3d_fullres", 0, dataset, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"name no strides.*stunet prepare"):
        trainer.initialize()


# Issue 32: KeyError: conv_blocks_context.0.0.conv1.weight


def official_v1(path):
    """The published file."""
    samples.write_v1(path, samples.network("small", 1, 105).state_dict())


def official_v2(path):
    """What the official code for nnU-Net v2 writes: v2's layout, official names, DDP's prefix."""
    named = {f"module.{key}": value for key, value in to_official_names(samples.network("small").state_dict()).items()}
    torch.save(samples.v2_content(named, samples.v2_plans("PlainConvUNet")), path)


def bare(path):
    """Tensors alone, as some save them."""
    torch.save(to_official_names(samples.network("small").state_dict()), path)


@pytest.mark.parametrize("write", [official_v1, official_v2, bare])
def test_32_official_names_are_known_in_every_layout(tmp_path, write):
    file = tmp_path / "weights.pth"
    write(file)
    state_dict, card = read_pretrained(file)
    assert torch.equal(
        state_dict["encoder.stages.0.0.conv1.weight"],
        samples.network("small", 1, card.network.num_classes).encoder.stages[0][0].conv1.weight,
    )


def test_32_the_weights_of_another_network_are_named(tmp_path):
    """nnU-Net's own U-Net has none of these names."""
    other = {"encoder.stages.0.0.convs.0.conv.weight": torch.zeros(1), "decoder.seg_layers.0.weight": torch.zeros(1)}
    torch.save({"network_weights": other}, tmp_path / "plain.pth")
    with pytest.raises(UserError, match=r"plain\.pth is not an STU-Net: it contains one of nnU-Net's own U-Nets"):
        read_pretrained(tmp_path / "plain.pth")


# Issue 34: build_network_architecture() takes from 4 to 5 positional arguments but 6 were given


@pytest.mark.parametrize("name", ["STUNetTrainer_small", "STUNetTrainer_base_ft"])
def test_34_build_network_architecture_takes_what_this_nnunet_gives(home, name):
    file = home / "preprocessed" / DATASET / "nnUNetPlans.json"
    plans = PlansManager(json.loads(file.read_text()))
    trainer = getattr(trainers, name)
    with torch.device("meta"):
        network = trainer.build_network_architecture(plans, plans.get_configuration("3d_fullres"), 2, 4, True)
    assert (network.input_channels, network.num_classes) == (2, 4)
    assert network.decoder.deep_supervision
    ours, theirs = (inspect.signature(t.build_network_architecture) for t in (trainer, nnUNetTrainer))
    assert list(ours.parameters) == list(theirs.parameters)
