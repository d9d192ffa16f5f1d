"""The recipes against the paper's text."""

import pytest
import torch
from nnunetv2.training.lr_scheduler.warmup import Lin_incr_LRScheduler, PolyLRScheduler_offset

from stunet.errors import UserError
from stunet.networks.registry import CLASSES
from stunet.training.optimizer import LearningRateSchedule
from stunet.training.recipes import RECIPES, Recipe, departures, find_recipe, recipe_of


def test_what_the_paper_says_of_all_trainings():
    for recipe in (RECIPES[name] for name in ("scratch", "pretrain", "finetune")):
        assert (recipe.iterations_per_epoch, recipe.learning_rate) == (250, 0.01)
        assert (recipe.momentum, recipe.weight_decay) == (0.99, 1e-3)
        assert recipe.mirror and recipe.paper_transforms


def test_what_it_says_of_each():
    scratch, pretrain, finetune = (find_recipe(name) for name in ("scratch", "pretrain", "finetune"))
    assert (scratch.epochs, scratch.body_learning_rate_factor, scratch.patch) == (1000, 1, None)
    assert (pretrain.epochs, pretrain.patch, pretrain.batch_size) == (4000, (128, 128, 128), 2)
    assert (finetune.epochs, finetune.body_learning_rate_factor, finetune.patch) == (1000, 0.1, None)


def test_other_systems_are_trained_as_their_papers_say():
    """Within nnU-Net, for 1000 epochs (section 4.1)."""
    expected = {
        "nnunet_star_w2": ("sgd", 0.01, "polynomial", 0.0, 3e-5),
        "nnformer": ("sgd", 0.01, "polynomial", 0.0, 3e-5),
        "unet3d": ("sgd", 0.01, "polynomial", 0.0, 3e-5),
        "unetr_s": ("adamw", 1e-4, "cosine", 0.05, 1e-5),
        "swin_unetr_l": ("adamw", 8e-4, "cosine", 0.05, 1e-5),
        "base_transposed": ("sgd", 0.01, "polynomial", 0.0, 1e-3),
    }
    for network, numbers in expected.items():
        r = recipe_of(network)
        assert (r.optimizer, r.learning_rate, r.schedule, r.warm_up, r.weight_decay) == numbers
        assert (r.epochs, r.iterations_per_epoch, r.momentum) == (1000, 250, 0.99)
    assert set(RECIPES) == {"scratch", "pretrain", "finetune", "warmup", *CLASSES} - {"stunet"}


def test_changes_leave_the_rest():
    changed = RECIPES["pretrain"].with_changes(epochs=40, mirror=False, patch=None)
    assert (changed.epochs, changed.mirror, changed.patch) == (40, False, (128, 128, 128))
    assert RECIPES["pretrain"].mirror
    assert "mirror: off" in changed.lines() and "patch: 128 x 128 x 128" in changed.lines()


def test_data_that_a_recipe_is_not_meant_for():
    assert departures(RECIPES["scratch"], (1, 1, 1), 2) == []
    assert departures(RECIPES["pretrain"], (1.5, 1.5, 1.5), 104) == []
    spacing, classes = departures(RECIPES["pretrain"], (1, 1.5, 1.5), 2)
    assert "meant for images of 1.5 x 1.5 x 1.5 mm; these are of 1.0 x 1.5 x 1.5 mm" in spacing
    assert "meant for 104 classes; this dataset has 2" in classes


@pytest.mark.parametrize(
    "numbers",
    [
        {"epochs": 0},
        {"iterations_per_epoch": 0},
        {"batch_size": -1},
        {"patch": (16, 0, 16)},
        {"learning_rate": 0.0},
        {"learning_rate": float("nan")},
        {"body_learning_rate_factor": -0.1},
        {"momentum": 1.0},
        {"warm_up": 1.0},
    ],
)
def test_numbers_with_which_nothing_is_learnt(numbers):
    with pytest.raises(UserError):
        Recipe("mine", **numbers)


def test_an_unknown_recipe():
    with pytest.raises(UserError, match=r"no recipe 'quick'.*scratch, pretrain, finetune, warmup"):
        find_recipe("quick")


@pytest.mark.parametrize("epochs", [1000, 160])
def test_the_warm_up_of_nnunet(epochs):
    """nnU-Net's trainers with a warm-up: linear for the first epochs, then its polynomial decay over the others."""
    recipe = RECIPES["warmup"].with_changes(epochs=epochs)
    parameter = torch.nn.Parameter(torch.zeros(1))
    ours = LearningRateSchedule(torch.optim.SGD([{"params": [parameter], "lr": recipe.learning_rate}]), recipe, epochs)
    warm_up = epochs // 20
    theirs = torch.optim.SGD([parameter], lr=1.0)
    rising = Lin_incr_LRScheduler(theirs, recipe.learning_rate, warm_up)
    falling = PolyLRScheduler_offset(theirs, recipe.learning_rate, epochs, warm_up)
    for epoch in range(epochs):
        (rising if epoch < warm_up else falling).step(epoch)
        ours.step(epoch)
        assert ours.get_last_lr()[0] == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-9), epoch


@pytest.mark.parametrize(
    ("numbers", "sentence"),
    [
        ({"foreground": 1.5}, "--foreground must be a fraction"),
        ({"patience": 0}, "--patience must be 1 or more"),
        ({"class_weights": (-1.0, 1.0)}, "--class-weights must be 0 or more"),
        ({"class_weights": (0.0, 0.0)}, "not all of them 0"),
    ],
)
def test_numbers_with_which_nothing_can_be_trained(numbers, sentence):
    with pytest.raises(UserError, match=sentence):
        RECIPES["scratch"].with_changes(**numbers)
