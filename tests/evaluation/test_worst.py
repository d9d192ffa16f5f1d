import pytest

from stunet.evaluation.case_scores import CaseScore, EvaluationConfig
from stunet.evaluation.report import EvaluationReport
from stunet.evaluation.worst import WorstCase, worst_cases
from tests.evaluation.samples import report


def test_the_worst_first():
    first, second = worst_cases(report(), 2)
    assert first == WorstCase("s2", pytest.approx(0.35), 2, "kidney_left", 0.0)
    assert second.case == "s1" and second.structure == "kidney_left"
    assert len(worst_cases(report(), 9)) == 3 and worst_cases(report(), 0) == ()


def test_the_highest_distance_is_the_worst():
    (first,) = worst_cases(report(metrics=("hd95",)), 1)
    assert first == WorstCase("s2", pytest.approx(154.5), 2, "kidney_left", 300.0)


def test_cases_without_a_label_are_not_bad():
    nothing = EvaluationReport({1: "liver"}, (CaseScore("a", {"dsc": {1: float("nan")}}),), EvaluationConfig())
    assert worst_cases(nothing, 5) == ()
