"""Which targets of a dataset count in its mean: three possible readings of the paper's Table 4.

Table 9 lists targets that TotalSegmentator v1 has no class for (prostate/uterus in AMOS, the rectum in WORD), and the
released script scores other targets than Table 9. The paper has one number per dataset and does not say how it was
computed, so all three are reported. For 11 of the 14 datasets they are the same.
"""

from collections.abc import Callable, Mapping

from stunet.evaluation.dice import mean_ignoring_nan
from stunet.labels.mapping import DatasetMapping, Target

Scores = Mapping[str, float]
"""Name of a target -> its mean over the cases, nan if no case has it; without targets that no class can predict."""


COUNTINGS: dict[str, Callable[[Target, Scores], bool]] = {
    "Table 9": lambda target, scores: target.is_listed,
    "evaluable": lambda target, scores: target.is_listed and target.name in scores,
    "released script": lambda target, scores: target.in_released_script,
}
"""Name of a counting -> whether a target counts in the mean; targets without a score count as 0.

The released script is the official code's label_sys.py (commit 06eb709).
"""


def countings_of(mapping: DatasetMapping) -> tuple[str, ...]:
    """The countings of a dataset; only "evaluable" if it is not in Table 9."""
    return tuple(COUNTINGS) if mapping.table9_row is not None else ("evaluable",)


def counted_means(mapping: DatasetMapping, scores: Scores) -> dict[str, float]:
    """Name of a counting -> mean."""

    def mean(counts: Callable[[Target, Scores], bool]) -> float:
        """The mean over the targets that count."""
        return mean_ignoring_nan([scores.get(t.name, 0.0) for t in mapping.targets if counts(t, scores)])

    return {name: mean(COUNTINGS[name]) for name in countings_of(mapping)}
