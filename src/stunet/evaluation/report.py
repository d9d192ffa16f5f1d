"""Score the predictions of many cases: every metric of each case and label, and means."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stunet.evaluation.case_scores import CasePair, CaseScore, EvaluationConfig, pair_files, score_case
from stunet.evaluation.dice import mean_ignoring_nan

OnCase = Callable[[int, int], None]
"""Called with the number of finished cases and the total."""


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of all cases.

    Attributes:
        names: label value to name of the scored labels.
        cases: scores of the cases, sorted by name.
        config: settings.
    """

    names: Mapping[int, str]
    cases: tuple[CaseScore, ...]
    config: EvaluationConfig

    def matrix(self, metric: str) -> np.ndarray:
        """One row per case and one column per label in `names`; nan if the label is absent from both."""
        rows = [[case.scores[metric].get(label, np.nan) for label in self.names] for case in self.cases]
        return np.array(rows, dtype=np.float64).reshape(len(self.cases), len(self.names))

    def case_means(self, metric: str) -> dict[str, float]:
        """The mean of each case over the labels that are in its prediction or reference."""
        return {case.case: case.mean_of(metric) for case in self.cases}

    def label_means(self, metric: str) -> dict[int, float]:
        """The mean of each label over the cases where it is in the prediction or reference."""
        columns = self.matrix(metric).T.tolist()
        return {label: mean_ignoring_nan(column) for label, column in zip(self.names, columns, strict=True)}

    def foreground_mean(self, metric: str) -> float:
        """The mean of `label_means`, as in nnU-Net."""
        return mean_ignoring_nan(list(self.label_means(metric).values()))

    @property
    def per_label(self) -> dict[int, float]:
        """`label_means` of the first metric, which is DSC by default."""
        return self.label_means(self.config.metrics[0])

    @property
    def mean(self) -> float:
        """`foreground_mean` of the first metric."""
        return self.foreground_mean(self.config.metrics[0])


def evaluate(
    prediction: str | Path,
    reference: str | Path,
    names: Mapping[int, str] | None = None,
    config: EvaluationConfig | None = None,
    on_case: OnCase = lambda done, total: None,
) -> EvaluationReport:
    """Score one file against one file, or a folder against a folder (same file names).

    Args:
        prediction: label map in any format that stunet reads, or a folder of them.
        reference: the same. In a folder, references without a prediction are an error.
        names: label value to name, without background; by default every value that occurs, named by its number.
        config: settings; by default DSC only.
        on_case: called after each case.

    Raises:
        UserError: files are missing or unreadable, grids differ, or a value is not in `names`.
    """
    return score_pairs(pair_files(Path(prediction), Path(reference)), names, config or EvaluationConfig(), on_case)


def score_pairs(
    pairs: Sequence[CasePair],
    names: Mapping[int, str] | None,
    config: EvaluationConfig,
    on_case: OnCase = lambda done, total: None,
) -> EvaluationReport:
    """As `evaluate`, for given pairs of files.

    Raises:
        UserError: as `evaluate`.
    """
    cases = []
    with ThreadPoolExecutor(max(1, config.workers), "stunet-evaluate") as pool:
        try:
            for score in pool.map(partial(score_case, names=names, config=config), pairs):
                cases.append(score)
                on_case(len(cases), len(pairs))
        finally:  # the first case that cannot be scored ends the evaluation
            pool.shutdown(cancel_futures=True)
    if names is None:
        labels = sorted({label for case in cases for scores in case.scores.values() for label in scores})
        names = {label: str(label) for label in labels}
        cases = [case.filled(labels) for case in cases]
    return EvaluationReport(names, tuple(cases), config)
