import json
import os
from types import SimpleNamespace

import numpy as np
import pytest
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner

from stunet.errors import UserError
from stunet.networks.registry import find_class, find_network
from stunet.networks.stunet import SIZES
from stunet.training.planners import (
    STUNetPlanner,
    Target,
    fitted_patch,
    plan_dataset,
    planned_architecture,
    plans_name,
    require_fitting_plans,
)
from tests.training.conftest import DATASET


@pytest.fixture
def plans(home):
    return lambda name: json.loads((home / "preprocessed" / DATASET / f"{name}.json").read_text())


def test_all_but_the_network_is_nnunets(plans):
    ours, theirs = plans("STUNetPlans_tiny"), plans("nnUNetPlans")
    del theirs["configurations"]["2d"]
    assert ours["configurations"].keys() == theirs["configurations"].keys()
    for name, configuration in ours["configurations"].items():
        for key in ("architecture", "data_identifier"):
            assert configuration.pop(key) != theirs["configurations"][name].pop(key)
    for key in ("plans_name", "experiment_planner_used"):
        assert ours.pop(key) != theirs.pop(key)
    assert ours == theirs


@pytest.mark.parametrize("size", ["tiny", "small"])
def test_the_network(plans, size):
    architecture = plans(plans_name(size))["configurations"]["3d_fullres"]["architecture"]
    strides = [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 1, 1], [1, 1, 1]]
    arguments = {"width": SIZES[size].width, "depth": SIZES[size].depth, "strides": strides}
    assert architecture["network_class_name"] == "stunet.networks.stunet.STUNet"
    assert architecture["arch_kwargs"] == arguments


def test_sizes_share_the_images(plans):
    folders = {plans(plans_name(s))["configurations"]["3d_fullres"]["data_identifier"] for s in ("tiny", "small")}
    assert folders == {"STUNetPlans_3d_fullres"}


def test_a_variant_is_for_the_trainer_that_builds_what_plans_say():
    planned = {"arch_kwargs": {"strides": [[1, 1, 1]] + [[2, 2, 2]] * 5}}
    architecture = planned_architecture(planned, (128, 128, 128), "tiny_transposed")
    configuration = SimpleNamespace(
        network_arch_class_name=architecture["network_class_name"], network_arch_init_kwargs=architecture["arch_kwargs"]
    )
    require_fitting_plans("plans", configuration, None, "STUNetTrainer")
    with pytest.raises(ValueError, match=r"variant.*STUNetTrainer"):
        require_fitting_plans("plans", configuration, "tiny", "STUNetTrainer_tiny")


@pytest.mark.parametrize(
    ("name", "patch", "decided"),
    [
        ("nnunet", [40, 56, 40], {"strides": [[1, 1, 1], [2, 2, 2]], "kernel_sizes": [[1, 3, 3], [3, 3, 3]]}),
        ("unet3d", [48, 64, 48], {}),
        ("unetr_b", [48, 64, 48], {"window_size": [48, 64, 48]}),
        ("swin_unetr_l", [64, 64, 64], {}),
        ("nnformer", [48, 64, 64], {}),
    ],
)
def test_what_a_plan_decides_of_other_networks(name, patch, decided):
    assert fitted_patch([40, 56, 40], find_class(find_network(name).kind).patch_multiple) == patch
    planned = {"arch_kwargs": {"strides": [[1, 1, 1], [2, 2, 2]], "kernel_sizes": [[1, 3, 3], [3, 3, 3]]}}
    assert planned_architecture(planned, patch, name)["arch_kwargs"] == {**find_network(name).arguments, **decided}


@pytest.mark.parametrize(("number", "cut"), [(3, 6), (6, 6), (7, 6)])
def test_strides_are_padded_or_cut(number, cut):
    strides = [[1, 1, 1]] + [[2, 2, 2]] * (number - 1)
    planned = planned_architecture({"arch_kwargs": {"strides": strides}}, (128, 128, 128), "base")["arch_kwargs"][
        "strides"
    ]
    assert len(planned) == cut
    assert planned == (strides + [[1, 1, 1]] * 5)[:6]


def test_a_planner_of_a_class_of_its_own_name(home):
    planner = STUNetPlanner(4, size="huge")
    assert planner.plans_identifier == "STUNetPlans_huge"
    assert planner.generate_data_identifier("3d_lowres") == "STUNetPlans_3d_lowres"


SPACING, MEMORY = (2.0, 1.5, 1.0), 3.0


def test_a_spacing_and_a_memory_of_ones_own(home, plans):
    """nnU-Net's planner, told the same, plans the same; the configuration is added to those that are there."""
    STUNetPlanner(4, "base").plan_experiment()
    before = plans("STUNetPlans_base")["configurations"]["3d_fullres"]
    STUNetPlanner(4, "base", Target("3d_coarse", SPACING, MEMORY)).plan_experiment()
    ExperimentPlanner(4, MEMORY, plans_name="Coarse", overwrite_target_spacing=list(SPACING)).plan_experiment()
    configurations = plans("STUNetPlans_base")["configurations"]
    assert configurations["3d_fullres"] == before
    ours, theirs = configurations["3d_coarse"], plans("Coarse")["configurations"]["3d_fullres"]
    assert ours["spacing"] == list(SPACING) and ours["spacing"] != before["spacing"]
    assert ours["data_identifier"] == "STUNetPlans_3d_coarse"
    for key in set(theirs) - {"architecture", "data_identifier"}:
        assert ours[key] == theirs[key], key


def test_a_small_gpu_gets_a_small_patch(home, plans):
    STUNetPlanner(4, "base", Target("mine", memory=0.1)).plan_experiment()
    ExperimentPlanner(4, 0.1, plans_name="Small").plan_experiment()
    mine = plans("STUNetPlans_base")["configurations"]["mine"]["patch_size"]
    assert mine == plans("Small")["configurations"]["3d_fullres"]["patch_size"]
    assert np.prod(mine) < np.prod(plans("nnUNetPlans")["configurations"]["3d_fullres"]["patch_size"])


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ({"configuration": "3d_fullres", "spacing": SPACING}, "name it, for example with -c 3d_coarse"),
        ({"configuration": "mine", "spacing": (1.0, 0.0, 1.0)}, r"--spacing \(mm\) .* must be above 0"),
        ({"configuration": "mine", "memory": -1.0}, r"--memory \(GB\) must be above 0"),
    ],
)
def test_targets_that_cannot_be_planned_for(target, sentence):
    with pytest.raises(UserError, match=sentence):
        Target(**target)


def test_planning_needs_a_thread_where_loading_needs_no_process(home, plans, monkeypatch):
    """nnU-Net takes the number of processes that load images for a number of threads, too."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    plan_dataset(DATASET, "large", "nnunet", home / "preprocessed" / DATASET / "STUNetPlans_large.json")
    assert "3d_fullres" in plans("STUNetPlans_large")["configurations"]
    assert os.environ["nnUNet_n_proc_DA"] == "0"
