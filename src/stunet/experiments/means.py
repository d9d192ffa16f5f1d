"""Means of several measurements, which tables show as a column of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from stunet.experiments.recipe import Expected, measured
from stunet.experiments.results import Measurement, Setting


@dataclass(frozen=True)
class MeanOverTargets:
    """The mean of a system's DSC over some targets, where all of them were measured.

    Attributes:
        name: of the new target.
        weights: target to its weight: 1 each for a mean over datasets, the number of classes for one over groups.
        expected: system to what the paper prints.
        setting: only measurements with these settings are averaged.
    """

    name: str
    weights: Mapping[str, int]
    expected: Mapping[str, Expected] = field(default_factory=dict)
    setting: Setting = field(default_factory=dict)

    def __call__(self, measurements: Sequence[Measurement]) -> list[Measurement]:
        """One mean for each system and setting that has all targets."""
        rows: dict[tuple[str, str], dict[str, Measurement]] = {}
        for measurement in measurements:
            target = measurement.target or ""
            if measurement.metric == "DSC" and target in self.weights and self._takes(measurement):
                key = (measurement.system, repr(sorted(measurement.setting.items())))
                rows.setdefault(key, {})[target] = measurement
        return [self._mean(list(row.values())) for row in rows.values() if set(row) == set(self.weights)]

    def _takes(self, measurement: Measurement) -> bool:
        return all(measurement.setting.get(name) == value for name, value in self.setting.items())

    def _mean(self, row: Sequence[Measurement]) -> Measurement:
        first = row[0]
        values = [(m.value, self.weights[m.target or ""]) for m in row if m.value is not None]
        total = sum(weight for _, weight in values)
        value = sum(value * weight for value, weight in values) / total if total else None
        return measured(first.system, "DSC", value, self.expected.get(first.system), self.name, first.setting)
