"""Confidence intervals of means by resampling the cases (Efron's percentile bootstrap)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CHUNK = 500
"""The number of resamples computed at a time, to limit memory."""


class Interval(NamedTuple):
    """A range; nan if there is none."""

    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """Settings of the bootstrap.

    Attributes:
        resamples: number of resamples of the cases, with replacement.
        confidence: share of resamples whose means are in the interval.
        seed: random seed; with the same seed, two systems have the same cases in each resample.
    """

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0

    def label_means(self, scores: np.ndarray) -> np.ndarray:
        """The mean of each label in each resample: (resamples, labels), nan if none of its cases has the label.

        Args:
            scores: (cases, labels), nan if a case has no score of a label.
        """
        random = np.random.default_rng(self.seed)
        cases = len(scores)
        is_known = np.isfinite(scores)
        known = np.where(is_known, scores, 0.0)
        means = np.empty((self.resamples, scores.shape[1]))
        for start in range(0, self.resamples, CHUNK):
            chunk = means[start : start + CHUNK]
            times_drawn = random.multinomial(cases, np.full(cases, 1 / cases), len(chunk)).astype(np.float64)
            with np.errstate(invalid="ignore"):
                chunk[:] = (times_drawn @ known) / (times_drawn @ is_known)
        return means

    def interval(self, statistics: np.ndarray, cases: int) -> Interval:
        """The central range of a statistic over all resamples, ignoring nan.

        Args:
            statistics: (resamples,).
            cases: number of cases behind it; with a single case there is no interval.
        """
        known = statistics[np.isfinite(statistics)]
        if not known.size or cases < 2:
            return Interval(math.nan, math.nan)
        outside = (1 - self.confidence) / 2
        low, high = np.quantile(known, (outside, 1 - outside))
        return Interval(float(low), float(high))


def mean_over_labels(label_means: np.ndarray) -> np.ndarray:
    """The mean of each row, ignoring nan; nan if all values are nan."""
    is_known = np.isfinite(label_means)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(is_known, label_means, 0.0).sum(axis=1) / is_known.sum(axis=1))
