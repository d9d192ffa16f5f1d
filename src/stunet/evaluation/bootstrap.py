"""How far a mean over cases could be another's: intervals by resampling the cases (Efron's percentile bootstrap)."""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CHUNK = 500
"""Resamples that are weighed at a time, which bounds memory."""


class Interval(NamedTuple):
    """A range; nan where there is none."""

    low: float
    high: float


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found.

    Attributes:
        resamples: of the cases, with replacement.
        confidence: the share of them whose means lie in the interval.
        seed: of the random numbers; two systems' scores resampled with one seed have the same cases in each resample.
    """

    resamples: int = 10_000
    confidence: float = 0.95
    seed: int = 0

    def label_means(self, scores: np.ndarray) -> np.ndarray:
        """The mean of each label in each resample: (resamples, labels), nan where the label is in none of its cases.

        Args:
            scores: (cases, labels), nan where a label says nothing.
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
        """The central range of a statistic of all resamples; those where it is nan say nothing.

        Args:
            statistics: (resamples,).
            cases: how many it is made of; a single one leaves nothing to resample, and there is no interval.
        """
        known = statistics[np.isfinite(statistics)]
        if not known.size or cases < 2:
            return Interval(math.nan, math.nan)
        outside = (1 - self.confidence) / 2
        low, high = np.quantile(known, (outside, 1 - outside))
        return Interval(float(low), float(high))


def mean_over_labels(label_means: np.ndarray) -> np.ndarray:
    """The mean of each row over what is not nan; nan where all is."""
    is_known = np.isfinite(label_means)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(is_known, label_means, 0.0).sum(axis=1) / is_known.sum(axis=1))
