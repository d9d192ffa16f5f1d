"""Compute the points of figures from a results file. Repeated runs become one point.

DSC is in percent here. The paper's values are shown only in the full profile, not next to results from less data and
smaller networks.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import numpy as np

from stunet.errors import UserError
from stunet.experiments.counting import MULT_ADDS, PARAMETERS
from stunet.experiments.results import Measurement, Results
from stunet.pictures.bars import EXPERT, UNIVERSAL
from stunet.pictures.bubbles import Bubble
from stunet.pictures.style import Point

SEED = "seed"
"""The setting that differs between repeated runs."""

MODEL = "model"
"""The setting that distinguishes experts from universal models."""

WHOLE = ("all", "mean")
"""Targets that summarise all others."""

FEWEST_CASES = 3
"""The minimum number of cases for an interval."""

RESAMPLES, COVERAGE_PERCENT = 2000, 95

_NUMBER = re.compile(r"^Dataset\d+_")


def curves_of(results: Results, amount: str, scale: float = 1.0) -> dict[str, dict[str, dict[float, Point]]]:
    """Panel -> system -> amount of data -> DSC. Amounts ascend; systems keep the order of the results.

    A panel is a dataset: the setting `dataset` without nnU-Net's number, "" if unset.

    Args:
        results: measurements of DSC.
        amount: name of the setting with the amount.
        scale: factor for that setting.

    Raises:
        UserError: the results have no DSC, or an amount is missing.
    """
    curves: dict[str, dict[str, dict[float, Point]]] = {}
    measurements = _of_one_target(_dsc_in(results))
    for panel, system in dict.fromkeys((_panel_of(m), m.system) for m in measurements):
        own = [m for m in measurements if (_panel_of(m), m.system) == (panel, system)]
        groups = groupby(sorted(own, key=lambda m: _number_in(m, amount)), key=lambda m: scale * _number_in(m, amount))
        curves.setdefault(panel, {})[system] = {x: point_of(list(group)) for x, group in groups}
    return curves


def bubbles_of(results: Results) -> dict[str, Bubble]:
    """System -> bubble, in the order of the results.

    Raises:
        UserError: the results have no DSC, or a system with DSC has no parameters or mult-adds.
    """
    measurements = _of_one_target(_dsc_in(results))
    costs = {(m.system, m.metric): m.value for m in results.measurements if m.value is not None}
    bubbles = {}
    for system in dict.fromkeys(m.system for m in measurements):
        parameters, mult_adds = (costs.get((system, metric)) for metric in (PARAMETERS, MULT_ADDS))
        if parameters is None or mult_adds is None:
            raise UserError(f"{system}: the results have its DSC, but not its {PARAMETERS} and {MULT_ADDS}.")
        bubbles[system] = Bubble(parameters, mult_adds, point_of([m for m in measurements if m.system == system]))
    return bubbles


def bars_of(results: Results) -> dict[tuple[str, str], dict[str, Point]]:
    """Target and system -> DSC of both models, in the order of the results.

    Raises:
        UserError: the results have no DSC, or lack the setting `model`, "expert" or "universal".
    """
    runs: dict[tuple[str, str], dict[str, list[Measurement]]] = {}
    for m in _dsc_in(results):
        model = m.setting.get(MODEL)
        if model not in (EXPERT, UNIVERSAL):
            raise UserError(f"{m.system}, {m.target}: the setting '{MODEL}' should be '{EXPERT}' or '{UNIVERSAL}'.")
        runs.setdefault((m.target or "", m.system), {}).setdefault(str(model), []).append(m)
    return {pair: {model: point_of(own) for model, own in models.items()} for pair, models in runs.items()}


def dsc_of_case(results: Results, case: str, target: str | None) -> dict[str, float]:
    """System -> DSC of one case (a fraction) for a target, or the mean over all targets in the results."""
    values: dict[str, list[float]] = {}
    for m in results.measurements:
        value = m.cases.get(case)
        if m.metric == "DSC" and target in (None, m.target) and value is not None:
            values.setdefault(m.system, []).append(value)
    return {system: sum(found) / len(found) for system, found in values.items()}


def point_of(measurements: Sequence[Measurement]) -> Point:
    """Combine runs that differ only in their seed into one point.

    Raises:
        UserError: the runs differ in something else.
    """
    first = measurements[0]
    for measurement in measurements:
        if _without_seed(measurement) != _without_seed(first):
            raise UserError(
                f"{first.system}: {dict(first.setting)} and {dict(measurement.setting)} would be one point of the "
                "figure. Runs of one point may differ in their seed only."
            )
    runs = tuple(100 * m.value for m in measurements if m.value is not None)
    cases = [100 * value for value in first.cases.values() if value is not None]
    interval = bootstrap_interval(cases) if len(runs) == 1 and len(cases) >= FEWEST_CASES else None
    return Point(sum(runs) / len(runs), runs, interval, None if first.paper is None else 100 * first.paper)


def _without_seed(measurement: Measurement) -> tuple[object, ...]:
    setting = {key: value for key, value in measurement.setting.items() if key != SEED}
    return measurement.system, measurement.target, measurement.metric, repr(sorted(setting.items()))


def bootstrap_interval(values: Sequence[float]) -> tuple[float, float]:
    """95 % bootstrap interval of the mean. It is deterministic."""
    drawn = np.random.default_rng(0).choice(np.asarray(values), (RESAMPLES, len(values))).mean(axis=1)
    tail = (100 - COVERAGE_PERCENT) / 2
    low, high = np.percentile(drawn, (tail, 100 - tail))
    return float(low), float(high)


def _dsc_in(results: Results) -> list[Measurement]:
    """The measurements of DSC that have a value, with the paper's values only in the full profile."""
    found = [m for m in results.measurements if m.metric == "DSC" and m.value is not None]
    if not found:
        raise UserError(f"The results of {results.experiment} have no DSC, so there is nothing to draw.")
    return found if results.profile == "full" else [replace(m, paper=None) for m in found]


def _of_one_target(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The measurements of the target for all labels, or of the only target."""
    targets = list(dict.fromkeys(measurement.target for measurement in measurements))
    chosen = next((target for target in WHOLE if target in targets), targets[0])
    if chosen not in WHOLE and len(targets) > 1:
        listed = ", ".join(map(str, targets))
        raise UserError(f"The figure shows one target, 'all' or 'mean'; the results have only {listed}.")
    return [measurement for measurement in measurements if measurement.target == chosen]


def _panel_of(measurement: Measurement) -> str:
    return _NUMBER.sub("", str(measurement.setting.get("dataset", "")))


def _number_in(measurement: Measurement, key: str) -> float:
    value = measurement.setting.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{measurement.system}: the setting '{key}' should be a number, not {value!r}.")
    return float(value)
