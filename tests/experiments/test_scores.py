"""Scores of targets and means over them, by hand."""

import math

import pytest

from stunet.evaluation.case_scores import CaseScore, EvaluationConfig
from stunet.evaluation.report import EvaluationReport
from stunet.experiments.experiment import Expected, measured
from stunet.experiments.scores import MeanOverTargets, ScoredTarget, dsc_of_targets

REPORT = EvaluationReport(
    {1: "liver", 2: "spleen", 3: "face"},
    (
        CaseScore("a", {"dsc": {1: 0.9, 2: 0.5, 3: math.nan}}),
        CaseScore("b", {"dsc": {1: 0.7, 2: math.nan, 3: math.nan}}),
    ),
    EvaluationConfig(),
)


def test_each_target_is_the_mean_of_its_labels_over_the_cases_that_have_them():
    targets = (
        ScoredTarget("abdomen", ("liver", "spleen"), Expected("65.00", "Table 3", percent=True)),
        ScoredTarget("head", ("face",)),
        ScoredTarget(),
    )
    abdomen, head, everything = dsc_of_targets(REPORT, "STU-Net-B", targets, {"fraction": 0.1})
    assert abdomen.value == pytest.approx((0.8 + 0.5) / 2)
    assert abdomen.agrees is True
    assert abdomen.cases == {"a": pytest.approx(0.7), "b": 0.7}
    assert (head.value, head.cases) == (None, {"a": None, "b": None})
    assert (everything.target, everything.value) == ("all", pytest.approx(0.65))
    assert everything.setting == {"fraction": 0.1}


def test_a_label_that_was_not_scored_is_a_slip():
    with pytest.raises(ValueError, match="heart"):
        dsc_of_targets(REPORT, "STU-Net-B", (ScoredTarget("x", ("heart",)),), {})


def test_a_mean_over_targets_is_weighted_and_needs_all_of_them():
    mean = MeanOverTargets("all", {"one": 1, "three": 3}, {"B": Expected("60.00", "Table 5", percent=True)})
    rows = [measured("B", "DSC", 0.9, target="one"), measured("B", "DSC", 0.5, target="three")]
    rows += [measured("L", "DSC", 0.9, target="one"), measured("B", "NSD", 0.1, target="one")]
    (found,) = mean(rows)
    assert (found.system, found.value, found.paper, found.agrees) == ("B", pytest.approx(0.6), 0.6, True)


def test_settings_are_not_mixed():
    mean = MeanOverTargets("all", {"one": 1, "two": 1}, setting={"model": "expert"})
    one = measured("B", "DSC", 0.9, target="one", setting={"model": "expert"})
    two = measured("B", "DSC", 0.5, target="two", setting={"model": "universal"})
    assert mean([one, two]) == []
