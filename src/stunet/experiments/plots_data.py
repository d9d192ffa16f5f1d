"""What figures draw: measurements gathered into points, repeated runs together."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from stunet.errors import UserError
from stunet.experiments.results import Measurement, Results

SEED = "seed"
"""The setting in which repeated runs differ."""

WHOLE = ("all", "mean")
"""Targets that stand for all others together."""

FEWEST_CASES = 3
"""An interval of fewer says nothing."""

RESAMPLES, COVERAGE_PERCENT = 2000, 95


@dataclass(frozen=True)
class Point:
    """One place in a figure.

    Attributes:
        value: mean of the runs.
        runs: the value of each run, in the order of the file; one for each seed.
        interval: 95 % bootstrap interval over the cases of a single run; None for several runs or too few cases.
        paper: what the paper prints, None where it prints nothing.
    """

    value: float
    runs: tuple[float, ...]
    interval: tuple[float, float] | None
    paper: float | None


def point_of(measurements: Sequence[Measurement], scale: float = 100.0) -> Point:
    """Runs that differ in their seed only, as one point; `scale` turns shares into per cent.

    Raises:
        UserError: runs that differ in something else.
    """
    first = measurements[0]
    for measurement in measurements:
        if _without_seed(measurement) != _without_seed(first):
            raise UserError(
                f"{first.system}: {dict(first.setting)} and {dict(measurement.setting)} would be one point of the "
                "figure. Runs of one point may differ in their seed only."
            )
    runs = tuple(scale * m.value for m in measurements if m.value is not None)
    cases = [scale * value for value in first.cases.values() if value is not None]
    interval = bootstrap_interval(cases) if len(runs) == 1 and len(cases) >= FEWEST_CASES else None
    return Point(sum(runs) / len(runs), runs, interval, None if first.paper is None else scale * first.paper)


def _without_seed(measurement: Measurement) -> tuple[object, ...]:
    setting = {key: value for key, value in measurement.setting.items() if key != SEED}
    return measurement.system, measurement.target, measurement.metric, repr(sorted(setting.items()))


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """Within which the mean of so many cases lies in 95 % of samples drawn from them; the same each time."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (RESAMPLES, len(values))).mean(axis=1)
    tail = (100 - COVERAGE_PERCENT) / 2
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return float(low), float(high)


def measured(results: Results, metric: str) -> list[Measurement]:
    """The measurements of one metric that have a value.

    Raises:
        UserError: there is none.
    """
    found = [m for m in results.measurements if m.metric == metric and m.value is not None]
    if not found:
        raise UserError(f"The results of {results.experiment} hold no {metric}, so there is nothing to draw.")
    return found


def headline(measurements: Sequence[Measurement]) -> list[Measurement]:
    """Those of the target that stands for all, or of the only one.

    Raises:
        UserError: several targets and none of them stands for all.
    """
    targets = list(dict.fromkeys(measurement.target for measurement in measurements))
    chosen = next((target for target in WHOLE if target in targets), targets[0])
    if chosen not in WHOLE and len(targets) > 1:
        listed = ", ".join(map(str, targets))
        raise UserError(f"The figure shows one target, 'all' or 'mean'; the results hold only {listed}.")
    return [measurement for measurement in measurements if measurement.target == chosen]


def number_in(measurement: Measurement, key: str) -> float:
    """A number among the settings of a measurement.

    Raises:
        UserError: it is not there, or no number.
    """
    value = measurement.setting.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{measurement.system}: the setting '{key}' should be a number, not {value!r}.")
    return float(value)


def distinct(names: Iterable[str]) -> list[str]:
    """Each name once, in order of appearance."""
    return list(dict.fromkeys(names))


def short_names(names: Sequence[str]) -> dict[str, str]:
    """Names without the words that all of them begin with; words end at a hyphen, comma or blank.

    >>> short_names(["STU-Net-S", "STU-Net, tiny"])
    {'STU-Net-S': 'S', 'STU-Net, tiny': 'tiny'}
    >>> short_names(["base", "basic"]), short_names(["STU-Net-S"])
    ({'base': 'base', 'basic': 'basic'}, {'STU-Net-S': 'S'})
    """
    words = [[word for word in re.split("[-, ]+", name) if word] for name in names]
    first, longest = words[0], min(map(len, words)) - 1
    shared = next((i for i in range(longest) if any(own[i] != first[i] for own in words)), longest)
    return {name: _after_words(name, shared) for name in names}


def _after_words(name: str, count: int) -> str:
    """
    >>> _after_words("STU-Net, tiny", 2), _after_words("STU-Net", 0)
    ('tiny', 'STU-Net')
    """
    return re.split("[-, ]+", name, maxsplit=count)[-1] if count else name  # no limit is what 0 means to `split`
