import math
from typing import get_args

import numpy as np
import pytest

from stunet.cli.evaluate import MetricName
from stunet.evaluation.dice import dice_per_label
from stunet.evaluation.metrics import METRICS, score_structures
from stunet.evaluation.surface import hausdorff_distance, normalised_surface_distance, surface_distances

SPACING = (3.0, 1.0, 0.5)
ALL = tuple(METRICS)


def random_labels(seed):
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 5, (4, 5, 6)).astype(np.uint8)
    return coarse.repeat(3, 0).repeat(4, 1).repeat(2, 2)


def test_every_structure_of_a_case_as_if_nothing_were_cut():
    prediction, reference = random_labels(0), random_labels(1)
    tolerances = {1: 0.5, 2: 1.0, 3: 3.0, 4: 9.0}
    scores = score_structures(prediction, reference, SPACING, tolerances, ALL)
    assert scores["dsc"] == pytest.approx(dice_per_label(prediction, reference, [1, 2, 3, 4]))
    for label, mm in tolerances.items():
        surfaces = surface_distances(prediction == label, reference == label, SPACING)
        assert scores["nsd"][label] == pytest.approx(normalised_surface_distance(surfaces, mm))
        assert scores["hd95"][label] == pytest.approx(hausdorff_distance(surfaces, 95))


def test_empty_cases():
    prediction, reference = np.zeros((2, 4, 5), np.uint16), np.zeros((2, 4, 5), np.uint16)
    prediction[0, 0, 0], reference[1, 3, 4] = 300, 301
    scores = score_structures(prediction, reference, SPACING, {300: 3.0, 301: 3.0, 302: 3.0}, ALL)
    diagonal = math.sqrt((2 * 3.0) ** 2 + (4 * 1.0) ** 2 + (5 * 0.5) ** 2)
    for label in (300, 301):
        assert (scores["dsc"][label], scores["nsd"][label]) == (0, 0)
        assert scores["hd95"][label] == pytest.approx(diagonal)
    assert all(math.isnan(scores[metric][302]) for metric in ALL)


def test_only_what_was_asked_for():
    labels = random_labels(2)
    assert score_structures(labels, labels, SPACING, {2: 3.0}, ["dsc"]) == {"dsc": {2: 1.0}}


def test_shapes_that_differ():
    with pytest.raises(ValueError, match="shape"):
        score_structures(np.zeros((2, 2, 2), np.uint8), np.zeros((2, 2, 3), np.uint8), SPACING, {1: 1.0}, ALL)


def test_the_command_offers_all_of_them():
    assert get_args(MetricName) == ALL
