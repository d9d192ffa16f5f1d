import itertools
import math

import numpy as np
import pytest
from scipy import stats

from stunet.evaluation.bootstrap import Bootstrap, mean_over_labels


def test_three_cases_against_all_their_resamples():
    """27 equally likely resamples: the exact distribution of the mean, and its quantiles."""
    scores = np.array([[0.2], [0.5], [0.9]])
    exact = [np.mean(drawn) for drawn in itertools.product(scores[:, 0], repeat=3)]
    sampled = Bootstrap(resamples=200_000).label_means(scores)[:, 0]
    for value in set(np.round(exact, 6)):
        share = np.isclose(exact, value, atol=1e-5).mean()
        assert np.isclose(sampled, value, atol=1e-5).mean() == pytest.approx(share, abs=0.005)


def test_many_cases_against_the_normal_approximation_and_scipy():
    scores = np.random.default_rng(1).beta(8, 2, (400, 1))
    low, high = (bootstrap := Bootstrap()).interval(bootstrap.label_means(scores)[:, 0], 400)
    half = stats.norm.ppf(0.975) * scores.std() / math.sqrt(400)
    assert (low, high) == pytest.approx((scores.mean() - half, scores.mean() + half), abs=0.001)
    by_scipy = stats.bootstrap((scores[:, 0],), np.mean, method="percentile", n_resamples=5000, rng=2)
    assert (low, high) == pytest.approx(tuple(by_scipy.confidence_interval), abs=0.001)


def test_the_mean_over_labels_weighs_labels_alike_as_the_foreground_mean_does():
    random = np.random.default_rng(2)
    scores = random.random((30, 3))
    scores[random.random(scores.shape) < 0.4] = np.nan
    bootstrap = Bootstrap(resamples=300, seed=5)
    ours = bootstrap.label_means(scores)
    counts = np.random.default_rng(5).multinomial(30, np.full(30, 1 / 30), 300)
    for row, drawn in zip(ours, counts, strict=True):
        expected = np.nanmean(np.repeat(scores, drawn, axis=0), axis=0)
        assert row == pytest.approx(expected)
    assert mean_over_labels(ours) == pytest.approx(np.nanmean(ours, axis=1))


def test_same_seed_same_interval():
    scores = np.random.default_rng(3).random((20, 2))
    first, again, other = (Bootstrap(1000, seed=seed).label_means(scores) for seed in (1, 1, 2))
    assert (first == again).all() and (first != other).any()


def test_what_is_not_there():
    scores = np.array([[np.nan, 0.5], [np.nan, 0.7]])
    bootstrap = Bootstrap(200)
    means = bootstrap.label_means(scores)
    assert np.isnan(means[:, 0]).all() and np.isfinite(means[:, 1]).all()
    assert all(map(math.isnan, bootstrap.interval(means[:, 0], 0)))
    assert all(map(math.isnan, bootstrap.interval(means[:, 1], 1)))
    assert mean_over_labels(means) == pytest.approx(means[:, 1])
    assert np.isnan(mean_over_labels(means[:, :1])).all()
