"""The five groups of the paper's Table 3, and means over them.

The table's last column is the mean of the groups weighted by their number of classes, that is, the mean over all 104
classes. This reproduces all 12 rows to the last digit; the plain mean of the five groups does not.
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
        classes: group to the number of classes in its mean.

    >>> class_weighted_mean({"organs": 1.0, "ribs": 0.25}, {"organs": 2, "ribs": 1})
    0.75
    """
    known = {group: mean for group, mean in means.items() if not math.isnan(mean)}
    total = sum(classes[group] for group in known)
    return sum(mean * classes[group] for group, mean in known.items()) / total if total else math.nan


def group_means(per_class: Mapping[str, float]) -> dict[str, float]:
    """The columns of Table 3: the mean of each group and of "all", ignoring nan.

    Args:
        per_class: class name of TotalSegmentator v1 to its mean; classes without a group are ignored.

    Raises:
        UserError: no class belongs to a group.
    """
    members = classes_by_group(per_class)
    values = {group: [per_class[name] for name in names] for group, names in members.items()}
    means = {group: mean_ignoring_nan(of_group) for group, of_group in values.items()}
    counts = {group: sum(not math.isnan(value) for value in of_group) for group, of_group in values.items()}
    return {**means, ALL: class_weighted_mean(means, counts)}


def classes_by_group(names: Iterable[str]) -> dict[str, list[str]]:
    """The groups with classes among `names`, in the order of Table 3, and these classes.

    Raises:
        UserError: there is no such group.
    """
    names = list(names)
    members = {group: [name for name in names if name in classes] for group, classes in GROUPS.items()}
    found = {group: of_group for group, of_group in members.items() if of_group}
    if not found:
        raise UserError(
            "None of the scored labels is one of TotalSegmentator v1's 104 structures, so there are no groups; "
            "use the label names of that dataset."
        )
    return found
