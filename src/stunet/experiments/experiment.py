"""An experiment: the runs that make up a table or figure of the paper, and the paper's results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol

from stunet.experiments.panel_cases import PanelCase
from stunet.experiments.results import Measurement, Setting

Profile = Literal["full", "mini"]

PROFILES: tuple[Profile, ...] = ("full", "mini")
"""`full` is the paper's experiment. `mini` runs the same code on little data, in minutes on a CPU."""

MINI_REMARK = (
    "Profile mini: small networks, little data, few iterations. It shows that the code works, not the paper's claim."
)


@dataclass(frozen=True)
class Expected:
    """A number as printed in the paper.

    Attributes:
        printed: its digits, "87.12".
        source: its place, "Table 3".
        percent: whether the paper prints percent where we use a fraction, as for DSC.
    """

    printed: str
    source: str
    percent: bool = False

    @property
    def value(self) -> float:
        """The number in our unit.

        >>> Expected("87.12", "Table 3", percent=True).value
        0.8712
        """
        printed = Decimal(self.printed)
        return float(printed / 100 if self.percent else printed)

    @property
    def decimals(self) -> int:
        """Number of decimals in our unit.

        >>> Expected("248.1", "Table 3").decimals, Expected("87.12", "Table 3", percent=True).decimals
        (1, 4)
        """
        return -int(Decimal(self.printed).as_tuple().exponent) + 2 * self.percent


def measured(
    system: str,
    metric: str,
    value: float | None,
    expected: Expected | None = None,
    target: str | None = None,
    setting: Setting | None = None,
    cases: Mapping[str, float | None] | None = None,
) -> Measurement:
    """A measurement with the paper's value. The fields are those of `Measurement`."""
    measurement = Measurement(system, metric, value, target, setting or {}, cases=cases or {})
    if expected is None:
        return measurement
    return replace(measurement, paper=expected.value, paper_decimals=expected.decimals, source=expected.source)


@dataclass(frozen=True)
class Workplace:
    """The inputs of a run.

    Attributes:
        folder: of the experiment. Runs store their files there and find those of other runs.
        data: dataset name -> folder.
        gpus: number of GPUs to train on; 0 is the CPU.
        resume: continue an interrupted run.
    """

    folder: Path
    data: dict[str, Path]
    gpus: int = 0
    resume: bool = False


class ExperimentRun(Protocol):
    """One step of an experiment, such as a training, a count or a prediction. It can be interrupted and resumed."""

    @property
    def key(self) -> str:
        """Its unique name within the experiment, made of letters that are valid in file names."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets it needs, the keys of `Workplace.data`."""
        return ()

    def gpu_hours(self) -> float:
        """Estimated hours on one A100; 0 if it needs no GPU."""
        return 0.0

    def expected(self) -> Sequence[Measurement]:
        """The paper's values, as measurements without a value of ours."""

    def measure(self, workplace: Workplace) -> Sequence[Measurement]:
        """Do the work.

        Raises:
            UserError: data are missing or bad.
            Stopped: a signal stopped it.
        """


def datasets_of(runs: Sequence[ExperimentRun]) -> tuple[str, ...]:
    """Names of the datasets that some runs need, without duplicates."""
    return tuple(dict.fromkeys(name for run in runs for name in run.datasets))


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper as an experiment.

    Attributes:
        name: for the command line, "table5".
        title: one line.
        shows: the paper's claim, in a sentence or two.
        source: place in the paper, "Table 5, section 4.2.2".
        full: the runs of the paper's experiment.
        mini: the runs on little data; if they equal `full`, the results are not marked as mini.
        elsewhere: results published by others, one sentence each.
        remarks: sentences to print with the results.
        derive: further rows of the table, computed from all measurements, such as means of several rows.
        pictures: the scans of a qualitative figure, from the runs that are done, their measurements, and the
            experiment's folder.
    """

    name: str
    title: str
    shows: str
    source: str
    full: tuple[ExperimentRun, ...]
    mini: tuple[ExperimentRun, ...]
    elsewhere: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    derive: Callable[[Sequence[Measurement]], Sequence[Measurement]] = field(default=lambda measurements: ())
    pictures: Callable[[Sequence[ExperimentRun], Sequence[Measurement], Path], Sequence[PanelCase]] = field(
        default=lambda runs, measurements, folder: ()
    )

    def __post_init__(self) -> None:
        for runs in (self.full, self.mini):
            keys = [run.key for run in runs]
            if len(set(keys)) < len(keys):
                raise ValueError(f"two runs of {self.name} have one key: {keys}")

    def runs(self, profile: Profile) -> tuple[ExperimentRun, ...]:
        """The runs of a profile."""
        return self.full if profile == "full" else self.mini

    def gpu_hours(self, profile: Profile) -> float:
        """Estimated hours of all its runs on one A100."""
        return sum(run.gpu_hours() for run in self.runs(profile))

    def datasets(self, profile: Profile) -> tuple[str, ...]:
        """Names of the datasets that a profile needs, without duplicates."""
        return datasets_of(self.runs(profile))

    def all_remarks(self, profile: Profile) -> tuple[str, ...]:
        """The remarks to print with the results of a profile."""
        is_small = profile == "mini" and self.mini is not self.full
        return (*self.remarks, MINI_REMARK) if is_small else self.remarks
