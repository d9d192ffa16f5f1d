import math

import pytest

from stunet.errors import UserError
from stunet.evaluation.dice import mean_ignoring_nan
from stunet.evaluation.groups import class_weighted_mean, classes_by_group, group_means
from stunet.labels.ontology import GROUPS, LABELS

# Table 3 of the paper, mean DSC in percent: the five groups, then all classes.
TABLE_3 = {
    "nnU-Net": (87.45, 86.97, 88.70, 85.05, 86.11, 86.76),
    "nnU-Net*": (87.48, 86.87, 88.43, 86.42, 85.98, 86.94),
    "nnFormer": (79.26, 73.87, 75.96, 74.97, 74.03, 75.37),
    "UNETR-S": (72.59, 71.94, 72.67, 66.20, 73.06, 71.27),
    "UNETR-B": (77.11, 74.21, 77.57, 73.29, 74.06, 75.05),
    "SwinUNETR-S": (76.29, 77.04, 76.05, 71.33, 74.21, 74.94),
    "SwinUNETR-B": (84.18, 83.27, 83.45, 81.07, 81.71, 82.64),
    "SwinUNETR-L": (85.39, 87.27, 85.25, 82.97, 83.63, 84.91),
    "STU-Net-S": (84.72, 83.05, 84.80, 82.92, 83.67, 83.74),
    "STU-Net-B": (87.67, 86.46, 88.64, 86.46, 86.82, 87.12),
    "STU-Net-L": (88.92, 88.71, 89.66, 87.61, 88.79, 88.71),
    "STU-Net-H": (89.82, 90.43, 90.89, 88.83, 90.29, 90.06),
}
COLUMNS = ("organs", "vertebrae", "cardiac", "muscles", "ribs")
CLASSES = {group: len(names) for group, names in GROUPS.items()}


@pytest.mark.parametrize("system", TABLE_3)
def test_table_3s_last_column_is_the_class_weighted_mean_of_the_others(system):
    *groups, everything = TABLE_3[system]
    assert class_weighted_mean(dict(zip(COLUMNS, groups, strict=True)), CLASSES) == pytest.approx(everything, abs=0.01)


def test_the_plain_mean_of_five_would_not_do():
    far = [abs(sum(row[:5]) / 5 - row[5]) > 0.011 for row in TABLE_3.values()]
    assert sum(far) == 10


@pytest.mark.parametrize("system", TABLE_3)
def test_scores_of_single_classes_give_the_table(system):
    """Every class has its group's mean, plus deviations that cancel out."""
    per_class = {}
    for group, mean in zip(COLUMNS, TABLE_3[system], strict=False):
        names = GROUPS[group]
        for place, name in enumerate(names):
            per_class[name] = mean + (place - (len(names) - 1) / 2)
    means = group_means(per_class)
    assert list(means) == [*COLUMNS, "all"]
    assert tuple(means.values()) == pytest.approx(TABLE_3[system], abs=0.01)


def test_all_is_the_mean_over_the_classes_that_are_there():
    per_class = dict.fromkeys(LABELS[1:], math.nan)
    per_class |= {"liver": 0.9, "spleen": 0.8, "aorta": 0.7, "rib_left_1": 0.2}
    means = group_means(per_class)
    assert means["organs"] == pytest.approx(0.8) and means["ribs"] == 0.2 and math.isnan(means["muscles"])
    assert means["all"] == pytest.approx(mean_ignoring_nan(list(per_class.values()))) == pytest.approx(0.65)


def test_labels_of_no_group():
    assert classes_by_group(["liver", "tumour"]) == {"organs": ["liver"]}
    with pytest.raises(UserError, match="no groups"):
        classes_by_group(["tumour"])
