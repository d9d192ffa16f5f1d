"""The recipes against the paper's text."""

import pytest

from stunet.errors import UserError
from stunet.networks.registry import CLASSES
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
    assert set(RECIPES) == {"scratch", "pretrain", "finetune", *CLASSES} - {"stunet"}


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
    with pytest.raises(UserError, match=r"no recipe 'quick'.*scratch, pretrain, finetune"):
        find_recipe("quick")
