"""Which targets of a dataset go into its mean: the three ways in which Table 4 of the paper can be read.

Table 9 lists targets that no class of TotalSegmentator v1 can give (prostate/uterus in AMOS, the rectum in WORD), and
the released script scores others than Table 9 lists. The paper prints one number for each dataset and does not say
which way it was counted, so all three are reported. For 11 of the 14 datasets they are the same.
"""

from collections.abc import Callable, Mapping

from stunet.evaluation.dice import mean_ignoring_nan
from stunet.labels.mapping import DatasetMapping, Target

Scores = Mapping[str, float]
"""Name of a target -> its mean over the cases, nan if no case has it; without the targets that no class can give."""


COUNTINGS: dict[str, Callable[[Target, Scores], bool]] = {
    "Table 9": lambda target, scores: target.is_listed,
    "evaluable": lambda target, scores: target.is_listed and target.name in scores,
    "released script": lambda target, scores: target.in_released_script,
}
"""Name of a counting -> whether a target goes into the mean, where it counts as 0 if it has no score.

The released script is the official code's label_sys.py (commit 06eb709).
"""


def countings_of(mapping: DatasetMapping) -> tuple[str, ...]:
    """The countings that a dataset has: only "evaluable" if it is not in Table 9."""
    return tuple(COUNTINGS) if mapping.table9_row is not None else ("evaluable",)


def counted_means(mapping: DatasetMapping, scores: Scores) -> dict[str, float]:
    """Name of a counting -> mean."""

    def mean(counts: Callable[[Target, Scores], bool]) -> float:
        """Over the targets that count."""
        return mean_ignoring_nan([scores.get(t.name, 0.0) for t in mapping.targets if counts(t, scores)])

    return {name: mean(COUNTINGS[name]) for name in countings_of(mapping)}
