import json
import math

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.evaluation.bootstrap import Bootstrap
from stunet.evaluation.case_scores import CaseScore, EvaluationConfig
from stunet.evaluation.report import EvaluationReport
from stunet.evaluation.result import conclude
from tests.evaluation.samples import report, result


def test_everything_is_in_the_dictionary():
    content = json.loads(json.dumps(result().to_dict(), allow_nan=False))
    dsc = content["metrics"]["dsc"]
    assert dsc["per_label"]["liver"]["value"] == pytest.approx((0.9 + 0.7 + 0.95) / 3 + 0.01)
    assert dsc["per_label"]["aorta"] == {"value": None, "interval": [None, None], "cases": 0}
    assert dsc["mean"]["value"] == pytest.approx((0.85 + 0.55) / 2 + 0.01) and dsc["mean"]["cases"] == 3
    assert dsc["per_case"]["s2"] == {"liver": pytest.approx(0.71), "kidney_left": pytest.approx(0.01), "aorta": None}
    assert "null" in dsc["empty_cases"]
    against = content["against"]["differences"]["dsc"]
    assert against["mean"]["value"] == pytest.approx(0.01) and against["mean"]["p_value"] == 0.25
    assert content["against"]["metrics"]["dsc"]["per_case"]["s1"]["liver"] == 0.9
    assert content["intervals"] == {
        "method": "percentile bootstrap over cases", "resamples": 200, "confidence": 0.95, "seed": 0
    }  # fmt: skip


def test_groups_hold_their_classes():
    groups = result().summaries[0].groups
    assert list(groups) == ["organs", "all"]
    assert groups["organs"].value == groups["all"].value == pytest.approx(result().summaries[0].mean.value)


def test_the_interval_of_a_group_is_that_of_its_labels():
    random = np.random.default_rng(0)
    names = {1: "liver", 2: "spleen", 3: "rib_left_1"}
    cases = tuple(CaseScore(str(case), {"dsc": dict(zip(names, random.random(3), strict=True))}) for case in range(15))
    both = EvaluationReport(names, cases, EvaluationConfig())
    without_rib = EvaluationReport({1: "liver", 2: "spleen"}, cases, EvaluationConfig())
    bootstrap = Bootstrap(300)
    (summary,) = conclude("a", both, bootstrap=bootstrap, with_groups=True).summaries
    (organs,) = conclude("b", without_rib, bootstrap=bootstrap).summaries
    assert summary.groups["organs"].interval == pytest.approx(organs.mean.interval)
    assert summary.groups["all"].interval == pytest.approx(summary.mean.interval)


def test_groups_of_other_labels():
    other = EvaluationReport({1: "tumour"}, (CaseScore("a", {"dsc": {1: 0.5}}),), EvaluationConfig())
    with pytest.raises(UserError, match="no groups"):
        conclude("a", other, with_groups=True)


def test_the_tolerances_are_told():
    scored = EvaluationReport({1: "liver"}, (CaseScore("a", {"nsd": {1: 0.5}}),), EvaluationConfig(("nsd",)))
    nsd = conclude("a", scored).to_dict()["metrics"]["nsd"]
    assert nsd["tolerance_mm"] == {"liver": 3.0} and "TotalSegmentator" in nsd["tolerance_source"]


def test_same_seed_same_result():
    assert result().to_dict() == result().to_dict()


def test_one_case_has_no_interval():
    one = EvaluationReport({1: "liver"}, report().cases[:1], EvaluationConfig())
    assert all(map(math.isnan, conclude("a", one).summaries[0].mean.interval))
