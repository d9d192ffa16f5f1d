"""Our trainers against nnU-Net's own, on the same weights and batches."""

import copy
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunetv2.run.run_training import maybe_load_checkpoint
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name

from stunet.networks.stunet import SIZES, STUNet
from stunet.training import trainers
from stunet.training.recipes import RECIPES
from stunet.weights.checkpoint import read_checkpoint
from tests.training.batches import random_batch, steps
from tests.training.options import changed

NAMES = [f"STUNetTrainer{size}{ft}" for size in ("", *(f"_{name}" for name in SIZES)) for ft in ("", "_ft", "_warmup")]


@pytest.fixture
def tiny(build):
    trainer = build("STUNetTrainer_tiny", "STUNetPlans_tiny")
    trainer.settings = changed(trainer.settings, precision="float32")
    trainer.initialize()
    return trainer


@pytest.mark.parametrize("name", NAMES)
def test_nnunet_finds_each_trainer_by_name(home, name):
    assert recursive_find_trainer_class_by_name(name) is getattr(trainers, name)


def test_the_numbers_of_the_paper(tiny):
    group = tiny.optimizer.param_groups[0]
    assert isinstance(tiny.optimizer, torch.optim.SGD)
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (1e-2, 0.99, True, 1e-3)
    assert (tiny.num_epochs, tiny.num_iterations_per_epoch, tiny.configuration_manager.batch_size) == (1000, 250, 2)


def test_fine_tuning_has_two_rates_in_one_ratio(build):
    trainer = build("STUNetTrainer_tiny_ft", "STUNetPlans_tiny")
    trainer.initialize()
    head, body = trainer.optimizer.param_groups
    names = {id(p): name for name, p in trainer.network.named_parameters()}
    assert all(".seg_layers." in names[id(p)] for p in head["params"])
    assert not any(".seg_layers." in names[id(p)] for p in body["params"])
    assert len(head["params"]) + len(body["params"]) == len(names)
    for epoch in range(trainer.num_epochs):
        trainer.lr_scheduler.step(epoch)
        assert head["lr"] == pytest.approx(0.01 * (1 - epoch / 1000) ** 0.9)
        assert body["lr"] == pytest.approx(0.1 * head["lr"])


@pytest.fixture
def stock(build, tiny):
    """nnU-Net's own trainer with the paper's weight decay, on our plans and with the weights of `tiny`."""
    trainer = build("nnUNetTrainer", "STUNetPlans_tiny")
    trainer.weight_decay = tiny.weight_decay
    trainer.initialize()
    assert isinstance(trainer.network, STUNet)
    trainer.network.load_state_dict(tiny.network.state_dict())
    return trainer


def largest_difference(network, other):
    theirs = other.state_dict()
    return max(float((value - theirs[key]).abs().max()) for key, value in network.state_dict().items())


def test_a_step_is_nnunets_step(tiny, stock):
    """To the bit, once the weights lie in memory as nnU-Net lays them."""
    tiny.network.to(memory_format=torch.contiguous_format)
    assert steps(tiny) == steps(stock)
    assert largest_difference(tiny.network, stock.network) == 0


def test_the_order_in_memory_costs_rounding_only(tiny, stock):
    assert tiny.network.encoder.stages[1][0].conv1.weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert steps(tiny) == pytest.approx(steps(stock), rel=1e-4)
    difference = largest_difference(tiny.network, stock.network)
    print(f"largest difference of a weight after two steps: {difference:.1e}")
    assert difference < 1e-4


def test_a_validation_step_is_nnunets(tiny, stock):
    with torch.no_grad():
        ours, theirs = (trainer.validation_step(random_batch(trainer)) for trainer in (tiny, stock))
    assert float(ours["loss"]) == pytest.approx(float(theirs["loss"]), rel=1e-6)
    assert abs(ours["tp_hard"] - theirs["tp_hard"]).max() <= 2


def test_bfloat16_is_close(tiny, build):
    half = build("STUNetTrainer_tiny", "STUNetPlans_tiny")
    half.settings = changed(half.settings, precision="bfloat16")
    half.initialize()
    half.network.load_state_dict(tiny.network.state_dict())
    assert steps(half) == pytest.approx(steps(tiny), rel=0.01)
    assert all(p.dtype == torch.float32 for p in half.network.parameters())


def test_five_heads_five_scales(tiny):
    scales = tiny._get_deep_supervision_scales()
    assert scales == [[1.0] * 3, [0.5] * 3, [0.25] * 3, [0.125] * 3, [0.125] * 3]
    tiny.set_deep_supervision_enabled(True)
    outputs = tiny.network(random_batch(tiny)["data"])
    assert [list(o.shape[2:]) for o in outputs] == [[40, 56, 40], [20, 28, 20], [10, 14, 10], [5, 7, 5], [5, 7, 5]]
    tiny.set_deep_supervision_enabled(False)
    assert tiny.network(random_batch(tiny)["data"]).shape == (2, 3, 40, 56, 40)


def test_a_sized_trainer_takes_nnunets_own_plans(build):
    """`nnUNetv2_train 4 3d_fullres 0 -tr STUNetTrainer_small`: four stages planned, six built."""
    trainer = build("STUNetTrainer_small", "nnUNetPlans")
    trainer.initialize()
    assert isinstance(trainer.network, STUNet)
    assert trainer.network.width == SIZES["small"].width
    assert trainer.network.strides[3:] == ((2, 2, 2), (1, 1, 1), (1, 1, 1))
    (loss,) = steps(trainer, 1)
    assert 0 < loss < 10


def test_nnunets_own_command_runs_it_and_goes_on_with_it(build, monkeypatch, tmp_path):
    """`nnUNetv2_train 4 3d_fullres 0 -tr STUNetTrainer_tiny`, and the same with `--c`."""
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    monkeypatch.setenv("nnUNet_n_proc_DA", "1")
    recipe = replace(RECIPES["scratch"], epochs=1, iterations_per_epoch=1)
    for epochs in (1, 2):
        trainer = build("STUNetTrainer_tiny", "nnUNetPlans")
        trainer.follow(replace(recipe, epochs=epochs))
        if epochs == 2:
            maybe_load_checkpoint(trainer, continue_training=True, validation_only=False)
            assert trainer.current_epoch == 1
        trainer.run_training()
        assert (Path(trainer.output_folder) / "checkpoint_final.pth").is_file()
        assert len(trainer.logger.get_value("train_losses", None)) == epochs


def test_a_trainer_without_size_builds_what_our_plans_say(build):
    trainer = build("STUNetTrainer", "STUNetPlans_tiny")
    trainer.initialize()
    assert trainer.network.width == SIZES["tiny"].width


@pytest.mark.parametrize(
    ("trainer", "plans", "sentence"),
    [
        ("STUNetTrainer_small", "STUNetPlans_tiny", "builds 'small'.*width 8.*-p STUNetPlans_small"),
        ("STUNetTrainer", "nnUNetPlans", "nnUNetPlans are for another network"),
    ],
)
def test_plans_that_do_not_fit_the_trainer(build, trainer, plans, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(trainer, plans).initialize()


def test_an_interrupted_write_keeps_the_last_checkpoint(tiny, tmp_path, monkeypatch):
    file = tmp_path / "checkpoint_latest.pth"
    tiny.save_checkpoint(str(file))
    whole = file.read_bytes()

    def half_a_file(content, path):
        with open(path, "wb") as stream:
            stream.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half_a_file)
    with pytest.raises(KeyboardInterrupt):
        tiny.save_checkpoint(str(file))
    assert file.read_bytes() == whole


def test_without_mirroring_it_augments_and_records_as_nnunets_trainer_of_that_kind(build, tmp_path):
    ours, theirs = (
        build("STUNetTrainer_tiny", "STUNetPlans_tiny"),
        build("nnUNetTrainerNoMirroring", "STUNetPlans_tiny"),
    )
    ours.follow(replace(ours.recipe, mirror=False))
    ours.initialize()
    configured = [t.configure_rotation_dummyDA_mirroring_and_inital_patch_size() for t in (ours, theirs)]
    assert str(configured[0]) == str(configured[1])
    assert configured[0][-1] is None
    file = tmp_path / "checkpoint_final.pth"
    ours.save_checkpoint(str(file))
    assert torch.load(file, weights_only=False)["inference_allowed_mirroring_axes"] is None
    assert read_checkpoint(file).mirror_axes == ()


def test_a_checkpoint_is_one_of_nnunets(tiny, stock, tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    steps(tiny, 1)
    tiny.save_checkpoint(str(file))
    weights = copy.deepcopy(tiny.network.state_dict())
    stock.load_checkpoint(str(file))
    assert all(torch.equal(value, weights[key]) for key, value in stock.network.state_dict().items())
    assert stock.current_epoch == tiny.current_epoch + 1
