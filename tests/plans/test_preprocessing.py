"""Plans are read from nnU-Net's dictionaries, written to JSON and read again; unsupported ones are refused by name."""

import json
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.plans.nnunet import plans_from
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.weights.published import PUBLISHED_PLAN
from tests.imaging.nnunet_reference import v2_plans

RESAMPLING = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}


def v1_plans(**changes: Any) -> dict[str, Any]:
    """The entries of an nnU-Net v1 plans file that preprocessing needs, with their original types."""
    pooling = {"pool_op_kernel_sizes": [[2, 2, 2]] * 5}
    stage = {"current_spacing": np.array([1.5, 1.5, 1.5]), "patch_size": np.array([128, 128, 128]), **pooling}
    coarse = {"current_spacing": np.array([3.0, 3.0, 3.0]), "patch_size": np.array([96, 96, 96]), **pooling}
    plans = {
        "plans_per_stage": OrderedDict({0: coarse, 1: stage}),
        "transpose_forward": [0, 1, 2],
        "normalization_schemes": OrderedDict({0: "nonCT"}),
        "use_mask_for_norm": OrderedDict({0: False}),
        "dataset_properties": {"intensityproperties": None},
    }
    return plans | changes


def test_the_plan_of_the_published_weights() -> None:
    plan = plans_from(v1_plans()).preprocessing
    assert plan == PreprocessingPlan("nnunet_v1", (1.5,) * 3, (128,) * 3, (ChannelNormalization("zscore"),))
    assert plans_from(v1_plans()).strides == ((1, 1, 1), *[(2, 2, 2)] * 5)


def test_the_catalogues_plan_is_the_same_but_for_the_orientation() -> None:
    """nnU-Net v1 uses scans as stored; the orientation of the published models is known from elsewhere."""
    assert replace(PUBLISHED_PLAN, orientation=None) == plans_from(v1_plans()).preprocessing


def test_v1_intensities_of_ct() -> None:
    statistics = {"mean": 50.0, "sd": 12.5, "percentile_00_5": -100.0, "percentile_99_5": 300.0, "median": 49.0}
    plan = plans_from(
        v1_plans(
            normalization_schemes=OrderedDict({0: "CT", 1: "nonCT"}),
            use_mask_for_norm=OrderedDict({0: True, 1: True}),
            dataset_properties={"intensityproperties": OrderedDict({0: statistics, 1: statistics})},
        )
    ).preprocessing
    assert plan.normalization == (
        ChannelNormalization("ct", 50.0, 12.5, -100.0, 300.0, use_mask=True),
        ChannelNormalization("zscore", use_mask=True),
    )


def test_v2_is_read_with_inheritance() -> None:
    plans = v2_plans((1.0, 0.5, 0.5), ["CTNormalization", "ZScoreNormalization"], [True, True], (2, 0, 1))
    plans["configurations"]["3d_large"] = {"inherits_from": "3d_fullres", "patch_size": [96, 128, 160]}
    plan = plans_from(plans, "3d_large").preprocessing
    assert plan.patch_size == (96, 128, 160)
    assert (plan.spacing, plan.transpose_forward, plan.convention) == ((1.0, 0.5, 0.5), (2, 0, 1), "nnunet_v2")
    assert plan.normalization[0] == ChannelNormalization("ct", 50.0, 120.0, -800.0, 600.0, use_mask=False)
    assert plan.normalization[1] == ChannelNormalization("zscore", use_mask=True)
    assert (plan.image_order, plan.logits_order, plan.force_separate_z, plan.orientation) == (3, 1, None, None)


@pytest.mark.parametrize("reader", ["NibabelIOWithReorient", "SimpleITKIOWithReorient"])
def test_a_reader_that_reorients_is_noticed(reader: str) -> None:
    plans = v2_plans() | {"image_reader_writer": reader}
    assert plans_from(plans).preprocessing.orientation == "RAS"


@pytest.mark.parametrize(
    "plan",
    [
        plans_from(v1_plans()).preprocessing,
        plans_from(v2_plans((3.0, 1.0, 1.0), ["CTNormalization"], [False], (1, 0, 2))).preprocessing,
    ],
)
def test_a_plan_survives_json(plan: PreprocessingPlan) -> None:
    assert PreprocessingPlan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"patch_size": [64, 64]}, "2D network"),
        ({"previous_stage": "3d_lowres"}, "cascade"),
        ({"normalization_schemes": ["MyNorm"]}, "'MyNorm', which is not supported; known: CTNormalization"),
        ({"resampling_fn_data": "resample_torch_fornnunet"}, "'resample_torch_fornnunet'"),
        ({"preprocessor_name": "MyPreprocessor"}, "'MyPreprocessor'"),
        ({"resampling_fn_probabilities_kwargs": {**RESAMPLING, "force_separate_z": True}}, "force_separate_z diff"),
        ({"inherits_from": "3d_fullres"}, "inherits from itself"),
        ({"inherits_from": "nothing"}, "no configuration 'nothing'"),
        ({"spacing": [1, 1]}, "damaged"),
        ({"spacing": [1, 1, 0]}, "damaged"),
        ({"spacing": None}, "damaged"),
    ],
)
def test_v2_configurations_that_cannot_be_followed_are_refused(changes: dict, reason: str) -> None:
    plans = v2_plans()
    plans["configurations"]["3d_fullres"].update(changes)
    with pytest.raises(UserError, match=reason):
        plans_from(plans)


def test_missing_entries_are_named() -> None:
    with pytest.raises(UserError, match="have no configuration '3d_lowres'; they have 3d_fullres"):
        plans_from(v2_plans(), "3d_lowres")
    with pytest.raises(UserError, match="have no entry 'transpose_forward'"):
        plans_from({k: v for k, v in v2_plans().items() if k != "transpose_forward"})
    with pytest.raises(UserError, match="neither 'plans_per_stage'"):
        plans_from({})
    with pytest.raises(UserError, match="have no entry 'normalization_schemes'"):
        plans_from({k: v for k, v in v1_plans().items() if k != "normalization_schemes"})
    with pytest.raises(UserError, match="CT2"):
        plans_from(v1_plans(normalization_schemes={0: "CT2"}))
    flat = {"current_spacing": [1.0, 1.0], "patch_size": [64, 64], "pool_op_kernel_sizes": [[2, 2]]}
    with pytest.raises(UserError, match="2D"):
        plans_from(v1_plans(plans_per_stage={0: flat}))


@pytest.mark.parametrize(
    "change",
    [
        {"convention": "v3"},
        {"spacing": [1, 1]},
        {"spacing": [1, 1, -1]},
        {"transpose_forward": [0, 0, 2]},
        {"normalization": []},
        {"normalization": [{"scheme": "nonsense"}]},
        {"unknown": 1},
    ],
)
def test_impossible_plans_are_a_mistake(change: dict) -> None:
    fields = plans_from(v1_plans()).preprocessing.to_dict() | change
    with pytest.raises(ValueError):
        PreprocessingPlan.from_dict(fields)
