"""The five groups of the paper's Table 3, and means over them.

The table's last column is the mean of the groups' columns weighted by the number of their classes, that is the mean
over all 104 classes: so computed, it follows for all of its 12 rows to the last digit. The plain mean of five does not.
"""

import math
from collections.abc import Iterable, Mapping

from stunet.errors import UserError
from stunet.evaluation.dice import mean_ignoring_nan
from stunet.labels.ontology import GROUPS

ALL = "all"
"""The column of Table 3 for all classes."""


def class_weighted_mean(means: Mapping[str, float], classes: Mapping[str, int]) -> float:
    """The mean over all classes, from the means of their groups; nan if no group has one.

    Args:
        means: group to the mean of its classes; nan if it has none.
        classes: group to the number of classes that its mean is of.

    >>> class_weighted_mean({"organs": 1.0, "ribs": 0.25}, {"organs": 2, "ribs": 1})
    0.75
    """
    known = {group: mean for group, mean in means.items() if not math.isnan(mean)}
    total = sum(classes[group] for group in known)
    return sum(mean * classes[group] for group, mean in known.items()) / total if total else math.nan


def group_means(per_class: Mapping[str, float]) -> dict[str, float]:
    """The columns of Table 3: the mean of each group and of "all"; classes that are nan say nothing.

    Args:
        per_class: TotalSegmentator v1's name of a class to its mean; classes of no group are passed over.

    Raises:
        UserError: no class belongs to a group.
    """
    members = classes_by_group(per_class)
    values = {group: [per_class[name] for name in names] for group, names in members.items()}
    means = {group: mean_ignoring_nan(of_group) for group, of_group in values.items()}
    counts = {group: sum(not math.isnan(value) for value in of_group) for group, of_group in values.items()}
    return {**means, ALL: class_weighted_mean(means, counts)}


def classes_by_group(names: Iterable[str]) -> dict[str, list[str]]:
    """The groups that have classes among `names`, in the order of Table 3, and those classes.

    Raises:
        UserError: there is none.
    """
    names = list(names)
    members = {group: [name for name in names if name in classes] for group, classes in GROUPS.items()}
    found = {group: of_group for group, of_group in members.items() if of_group}
    if not found:
        raise UserError(
            "None of the scored labels is one of TotalSegmentator v1's 104 structures, so there are no groups; "
            "name the labels as that dataset does."
        )
    return found
