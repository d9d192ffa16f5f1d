"""What an experiment is: the runs that make a table or figure of the paper, and what the paper prints for them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Literal, Protocol

from stunet.experiments.panel_cases import PanelCase
from stunet.experiments.results import Measurement, Setting

Profile = Literal["full", "mini"]

PROFILES: tuple[Profile, ...] = ("full", "mini")
"""`full` is the paper's experiment; `mini` runs the same code on little data for minutes on a CPU."""

MINI_REMARK = (
    "Profile mini: small networks, little data, few iterations. It shows the machinery, not the paper's claim."
)


@dataclass(frozen=True)
class Expected:
    """A number as the paper prints it.

    Attributes:
        printed: its digits, "87.12".
        source: where: "Table 3".
        percent: whether the paper prints percent of what we state as a fraction, as it does for DSC.
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
        """How many decimals it has in our unit.

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
    """A measurement beside what the paper prints for it; fields as those of `Measurement`."""
    measurement = Measurement(system, metric, value, target, setting or {}, cases=cases or {})
    if expected is None:
        return measurement
    return replace(measurement, paper=expected.value, paper_decimals=expected.decimals, source=expected.source)


@dataclass(frozen=True)
class Workplace:
    """What a run is given.

    Attributes:
        folder: of the experiment; a run may keep what it makes there, and finds what another run made.
        data: name of a dataset to the folder where it lies.
        gpus: how many GPUs to train on; 0 is the CPU.
        resume: go on with what an interrupted run left.
    """

    folder: Path
    data: dict[str, Path]
    gpus: int = 0
    resume: bool = False


class ExperimentRun(Protocol):
    """One step of an experiment, after which it can be interrupted and resumed: a training, a count, a prediction."""

    @property
    def key(self) -> str:
        """Its name among the runs of the experiment; letters that a file name may have."""

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names of the datasets that it needs, the keys of `Workplace.data`."""
        return ()

    def gpu_hours(self) -> float:
        """What it is expected to cost on one A100; 0 if it needs no GPU."""
        return 0.0

    def expected(self) -> Sequence[Measurement]:
        """What the paper prints for it: measurements without a value."""

    def measure(self, workplace: Workplace) -> Sequence[Measurement]:
        """Does it.

        Raises:
            UserError: data that are missing or bad.
            Stopped: it was told to stop.
        """


def datasets_of(runs: Sequence[ExperimentRun]) -> tuple[str, ...]:
    """Names of the datasets that some runs need, each once."""
    return tuple(dict.fromkeys(name for run in runs for name in run.datasets))


@dataclass(frozen=True)
class Experiment:
    """A table or figure of the paper as an experiment.

    Attributes:
        name: of the command, "table5".
        title: one line.
        shows: the paper's claim, in a sentence or two.
        source: where in the paper, "Table 5, section 4.2.2".
        full: the runs of the paper's experiment.
        mini: the runs on little data; where they are the same, that is no mini.
        elsewhere: where others published results to compare with, a sentence each.
        remarks: sentences that belong beside its results.
        derive: what the table shows besides, computed from what all runs measured: means of several rows.
        pictures: which scans a qualitative figure shows, of the runs that are done, what they measured, and the
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
        """What they are expected to cost together, in hours of one A100."""
        return sum(run.gpu_hours() for run in self.runs(profile))

    def datasets(self, profile: Profile) -> tuple[str, ...]:
        """Names of the datasets that a profile needs, each once."""
        return datasets_of(self.runs(profile))

    def all_remarks(self, profile: Profile) -> tuple[str, ...]:
        """What belongs beside the results of a profile."""
        is_small = profile == "mini" and self.mini is not self.full
        return (*self.remarks, MINI_REMARK) if is_small else self.remarks
