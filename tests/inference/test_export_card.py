"""An independent implementation of the card's numbers and formulas gives stunet's results."""

import json
from math import ceil

import numpy as np
import pytest

from stunet.inference.export_card import export_card, postprocessing_section, preprocessing_section
from stunet.inference.windows import gaussian_weight, window_starts
from stunet.plans.preprocessing import ChannelNormalization
from tests.inference.samples import plan, tiny_model


def card_of(model, tmp_path):
    file = tmp_path / "model.onnx"
    file.write_bytes(b"network")
    return json.loads(json.dumps(export_card(model, [file], ("image", "logits"), 1e-6), allow_nan=False))


def test_everything_is_said(tmp_path):
    model = tiny_model(num_classes=3, folds=2)
    card = card_of(model, tmp_path)
    assert card["model"]["networks_averaged"] == 2
    assert {"licence", "source", "metrics", "citation", "training"} <= set(card["model"])
    assert card["postprocessing"]["labels"] == ["background", "class_1", "class_2"]
    assert card["sliding_window"]["mirror_axes"] == [0, 2]
    assert card["preprocessing"]["resample"]["spacing_mm"] == [1.0, 1.0, 1.0]
    assert str(tmp_path) not in json.dumps(card)


@pytest.mark.parametrize("size", [(8, 16, 16), (40, 56, 40), (5, 7, 12)])
def test_the_weight_follows_its_formula(tmp_path, size):
    weight = card_of(tiny_model(patch_size=size), tmp_path)["sliding_window"]["weight"]
    distance = (np.stack(np.indices(size), axis=-1) - weight["centre"]) / weight["sigma"]
    values = (weight["peak"] * np.exp(-(distance**2).sum(-1) / 2)).astype(np.float16).astype(np.float32)
    values = np.maximum(values, values[values > 0].min())
    np.testing.assert_allclose(values, gaussian_weight(size).numpy(), rtol=1e-3, atol=6e-8)  # one step of float16


@pytest.mark.parametrize("image", [16, 17, 40, 100, 255])
def test_windows_start_where_the_card_says(tmp_path, image):
    sliding = card_of(tiny_model(), tmp_path)["sliding_window"]
    window = sliding["size"][1]
    n = ceil((image - window) / (sliding["step"] * window))
    starts = [round(k * (image - window) / n) for k in range(n + 1)] if n else [0]
    assert window_starts([image], [window]) == [starts]


@pytest.mark.parametrize("convention", ["nnunet_v1", "nnunet_v2"])
def test_the_order_is_the_conventions(convention):
    steps, last = (
        preprocessing_section(plan(convention=convention), ("CT",)),
        postprocessing_section(plan(convention=convention), ("background",)),
    )
    first_is_resampling = convention == "nnunet_v1"
    assert steps["order"][3:] == sorted(["normalise", "resample"], reverse=first_is_resampling)
    assert last["resample"]["thick_slices"]["grids"][0] == ("scan" if first_is_resampling else "network")


@pytest.mark.parametrize(
    ("scheme", "expected"),
    [
        ("ct", ([-900.0, 300.0], 20.0, 150.0)),
        ("zscore", (None, "mean", "standard deviation")),
        ("rescale_to_0_1", (None, "minimum", "range")),
        ("rgb_to_0_1", (None, 0.0, 255.0)),
        ("none", (None, 0.0, 1.0)),
    ],
)
def test_every_normalisation(scheme, expected):
    channel = ChannelNormalization(scheme, 20.0, 150.0, -900.0, 300.0)
    (said,) = preprocessing_section(plan(normalization=(channel,)), ("CT",))["normalise"]["channels"]
    assert (said["clip"], said["subtract"], said["divide_by"]) == expected


@pytest.mark.parametrize(
    ("force", "apart", "grids"), [(None, "by threshold", 2), (True, "always", 1), (False, "never", 1)]
)
def test_thick_slices(force, apart, grids):
    said = preprocessing_section(plan(force_separate_z=force), ("CT",))["resample"]["thick_slices"]
    assert (said["apart"], len(said["grids"]), said["threshold"]) == (apart, grids, 3.0)
