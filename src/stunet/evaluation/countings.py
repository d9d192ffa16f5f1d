"""Which targets of a dataset go into its mean: the three ways in which Table 4 of the paper can be read.

Table 9 lists targets that no class of TotalSegmentator v1 can give (prostate/uterus in AMOS, the rectum in WORD), and
the released script scores others than Table 9 lists. The paper prints one number for each dataset and does not say
which way it was counted, so all three are reported. For 11 of the 14 datasets they are the same.
"""

from collections.abc import Callable, Mapping

from stunet.evaluation.dice import mean_ignoring_nan
from stunet.labels.mapping import DatasetMapping

Scores = Mapping[str, float]
"""Name of a target -> its mean over the cases, nan if no case has it; without the targets that no class can give."""


def table9_mean(mapping: DatasetMapping, scores: Scores) -> float:
    """Mean over the targets that Table 9 lists; one without a score counts as 0."""
    return mean_ignoring_nan([scores.get(target.name, 0.0) for target in mapping.targets if target.is_listed])


def evaluable_mean(mapping: DatasetMapping, scores: Scores) -> float:
    """Mean over the listed targets that have a score."""
    return mean_ignoring_nan(
        [scores[target.name] for target in mapping.targets if target.is_listed and target.name in scores]
    )


def released_script_mean(mapping: DatasetMapping, scores: Scores) -> float:
    """Mean over the targets of the official code's label_sys.py (commit 06eb709); one without a score counts as 0."""
    return mean_ignoring_nan([scores.get(target.name, 0.0) for target in mapping.targets if target.in_released_script])


COUNTINGS: dict[str, Callable[[DatasetMapping, Scores], float]] = {
    "Table 9": table9_mean,
    "evaluable": evaluable_mean,
    "released script": released_script_mean,
}
"""The countings of a dataset of Table 9, by name."""


def countings_of(mapping: DatasetMapping) -> tuple[str, ...]:
    """The countings that a dataset has: only "evaluable" if it is not in Table 9."""
    return tuple(COUNTINGS) if mapping.table9_row is not None else ("evaluable",)


def counted_means(mapping: DatasetMapping, scores: Scores) -> dict[str, float]:
    """Name of a counting -> mean."""
    return {name: COUNTINGS[name](mapping, scores) for name in countings_of(mapping)}
