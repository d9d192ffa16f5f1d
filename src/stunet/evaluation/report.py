"""Predictions of many cases against their references: every metric of each case, each label and all."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from stunet.evaluation.case_scores import CaseScore, EvaluationConfig, pair_files, score_case
from stunet.evaluation.dice import mean_ignoring_nan

OnCase = Callable[[int, int], None]
"""Called with the number of cases done and of all."""


@dataclass(frozen=True)
class EvaluationReport:
    """Scores of all cases.

    Attributes:
        names: label value to name; the labels that were scored.
        cases: one score each, in order of name.
        config: what was measured.
    """

    names: Mapping[int, str]
    cases: tuple[CaseScore, ...]
    config: EvaluationConfig

    def matrix(self, metric: str) -> np.ndarray:
        """One row for each case and one column for each of `names`; nan where the label is absent from both."""
        rows = [[case.scores[metric].get(label, np.nan) for label in self.names] for case in self.cases]
        return np.array(rows, dtype=np.float64).reshape(len(self.cases), len(self.names))

    def case_means(self, metric: str) -> dict[str, float]:
        """Mean of each case over the labels that are in its prediction or in its reference."""
        return {case.case: case.mean_of(metric) for case in self.cases}

    def label_means(self, metric: str) -> dict[int, float]:
        """Mean of each label over the cases where it is in the prediction or in the reference."""
        columns = self.matrix(metric).T.tolist()
        return {label: mean_ignoring_nan(column) for label, column in zip(self.names, columns, strict=True)}

    def foreground_mean(self, metric: str) -> float:
        """Mean of `label_means`, as nnU-Net has it."""
        return mean_ignoring_nan(list(self.label_means(metric).values()))

    @property
    def per_label(self) -> dict[int, float]:
        """`label_means` of the first metric, which is DSC unless others were asked for."""
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
        prediction: NIfTI label map, or a folder of them.
        reference: the same; in a folder, cases without a prediction are an error, not left out silently.
        names: label value to name, background left out; by default every value that occurs, named by itself.
        config: what is measured; by default DSC.
        on_case: told of progress.

    Raises:
        UserError: files that are missing or unreadable, grids that differ, or values that `names` does not hold.
    """
    config = config or EvaluationConfig()
    pairs = pair_files(Path(prediction), Path(reference))
    cases = []
    with ThreadPoolExecutor(max(1, config.workers), "stunet-evaluate") as pool:
        try:
            for score in pool.map(partial(score_case, names=names, config=config), pairs):
                cases.append(score)
                on_case(len(cases), len(pairs))
        finally:  # the first case that cannot be scored ends it
            pool.shutdown(cancel_futures=True)
    if names is None:
        labels = sorted({label for case in cases for scores in case.scores.values() for label in scores})
        names = {label: str(label) for label in labels}
        cases = [case.filled(labels) for case in cases]
    return EvaluationReport(names, tuple(cases), config)
