import itertools
import math

import numpy as np
import pytest
from scipy import stats

from stunet.evaluation.bootstrap import Bootstrap
from stunet.evaluation.case_scores import CaseScore, EvaluationConfig
from stunet.evaluation.comparison import compare, holm, wilcoxon
from stunet.evaluation.report import EvaluationReport

FEW = Bootstrap(resamples=500)


def report(scores):
    """Rows are cases, columns the labels 1, 2, ..."""
    cases = tuple(
        CaseScore(f"case_{number}", {"dsc": dict(enumerate(row, start=1))}) for number, row in enumerate(scores)
    )
    names = {label: f"label_{label}" for label in range(1, len(scores[0]) + 1)}
    return EvaluationReport(names, cases, EvaluationConfig())


def test_wilcoxon_against_every_choice_of_signs():
    first = np.array([0.91, 0.85, 0.77, 0.95, 0.60, 0.88, 0.70])
    second = np.array([0.90, 0.80, 0.79, 0.85, 0.53, 0.84, 0.67])
    ranks = stats.rankdata(np.abs(first - second))
    observed = ranks[first > second].sum()
    sums = [
        sum(r for r, plus in zip(ranks, signs, strict=True) if plus) for signs in itertools.product((0, 1), repeat=7)
    ]
    one_sided = np.mean([s >= observed for s in sums])
    assert wilcoxon(first, second) == (pytest.approx(min(1, 2 * one_sided)), 7)


def test_wilcoxon_where_there_is_little_to_test():
    equal = np.array([0.5, 0.6])
    assert wilcoxon(equal, equal) == (1.0, 2)
    p_value, pairs = wilcoxon(np.array([0.5, np.nan]), np.array([np.nan, 0.5]))
    assert math.isnan(p_value) and pairs == 0


def test_holm():
    assert holm([0.01, 0.02, 0.03, 0.04]) == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    corrected = holm([0.01, math.nan, 0.04])
    assert corrected[0] == pytest.approx(0.02) and corrected[2] == pytest.approx(0.04) and math.isnan(corrected[1])
    assert holm([]) == []


def test_a_system_against_itself():
    scores = np.random.default_rng(0).random((12, 3)).tolist()
    comparison = compare(report(scores), report(scores), "dsc", FEW)
    for difference in (comparison.mean, *comparison.per_label.values()):
        assert difference.value == 0 and tuple(difference.interval) == (0, 0) and difference.p_value == 1


def test_the_interval_is_of_pairs_and_thus_narrow_where_systems_differ_evenly():
    random = np.random.default_rng(1)
    worse = random.uniform(0.2, 0.8, (25, 2))
    better = worse + 0.05 + random.normal(0, 0.002, worse.shape)
    comparison = compare(report(better.tolist()), report(worse.tolist()), "dsc", FEW)
    assert comparison.mean.value == pytest.approx(0.05, abs=0.002)
    low, high = comparison.mean.interval
    assert 0.048 < low < comparison.mean.value < high < 0.052
    assert comparison.mean.p_value < 1e-4 and comparison.mean.cases == 25
    assert comparison.per_label["label_1"].p_value == pytest.approx(2 * wilcoxon(better[:, 0], worse[:, 0])[0])


def test_a_label_that_only_one_system_finds_where_there_is_none():
    """The false alarm lowers the mean of its case; the label itself has no pair to test."""
    right, wrong = report([[0.9, math.nan], [0.8, math.nan]]), report([[0.9, 0.0], [0.8, 0.0]])
    comparison = compare(right, wrong, "dsc", FEW)
    assert comparison.mean.value == pytest.approx(0.85 - 0.425)
    assert comparison.per_label["label_2"].cases == 0 and math.isnan(comparison.per_label["label_2"].value)


def test_labels_that_only_one_report_names():
    comparison = compare(report([[0.9], [0.8]]), report([[0.9, 0.0], [0.8, 0.0]]), "dsc", FEW)
    assert list(comparison.per_label) == ["label_1", "label_2"]


def test_other_cases():
    with pytest.raises(ValueError, match="different cases"):
        compare(report([[0.9]]), report([[0.9], [0.8]]), "dsc", FEW)
