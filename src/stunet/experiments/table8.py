"""Table 8: STU-Net-L pre-trained for 1,000 to 8,000 epochs and fine-tuned, each with and without mirroring.

Command: `stunet experiment run table8 --profile full --data totalsegmentator=FOLDER --data flare22=FOLDER
--data flare22_validation=FOLDER --data autopet22_pet=FOLDER --gpus 8`;
on a CPU: `stunet experiment run table8 --profile mini --data hippocampus=FOLDER --data stspet=FOLDER
--data totalseg_example=FOLDER`.
Cost: about 1,870 hours of an A100 in all, 405 for the pre-training of 8,000 epochs;
mini: about 14 minutes of one CPU thread.
Expected: best with 4,000 epochs and mirroring in both: 88.25 % on FLARE22, 77.04 % on AutoPET-PET.
"""

from dataclasses import dataclass

from stunet.experiments.experiment import Expected, Experiment, ExperimentRun
from stunet.experiments.mini_data import MINI_DOWNSTREAM, mini_pretraining, short
from stunet.experiments.paper_data import (
    AUTOPET_LEARNING_RATE,
    AUTOPET_PET,
    FLARE22,
    Downstream,
    downstream_training,
    dsc_expected,
    paper_training,
)
from stunet.experiments.training_run import TrainingRun, TrainingSchedule


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        epochs: of pre-training, in thousands; 0 is none.
        pretrained_with_mirror: whether the pre-training used mirroring; None without pre-training.
        mirror: whether the fine-tuning, or the training from scratch, used mirroring.
        printed: DSC (%) on FLARE22 and on AutoPET-PET.
    """

    epochs: int
    pretrained_with_mirror: bool | None
    mirror: bool
    printed: str

    @property
    def pretraining(self) -> str | None:
        """Key of the pre-training run."""
        return f"pretraining-{self.epochs}k{_spoken(self.pretrained_with_mirror)}" if self.epochs else None

    @property
    def key(self) -> str:
        """Prefix of the keys of the fine-tuning runs."""
        start = f"{self.epochs}k{_spoken(self.pretrained_with_mirror)}" if self.epochs else "scratch"
        return f"{start}-then{_spoken(self.mirror)}"


def _spoken(mirror: bool | None) -> str:
    return "-mirror" if mirror else "-plain"


ROWS = (
    Row(0, None, True, "87.41 73.37"),
    Row(0, None, False, "85.79 73.59"),
    Row(4, True, True, "88.25 77.04"),
    Row(4, True, False, "87.65 76.34"),
    Row(4, False, True, "86.16 75.88"),
    Row(4, False, False, "86.41 73.90"),
    Row(1, True, True, "87.06 74.89"),
    Row(2, True, True, "87.63 76.89"),
    Row(8, True, True, "87.71 76.87"),
)
"""The paper shows the row with 4,000 epochs and mirroring twice."""

DATASETS = (Downstream(FLARE22, 14), Downstream(AUTOPET_PET, 2, 1, AUTOPET_LEARNING_RATE))

MINI_ITERATIONS = 6
"""Iterations per thousand epochs of pre-training."""


def _pretraining(row: Row, is_mini: bool) -> TrainingRun:
    key, mirror = row.pretraining or "", row.pretrained_with_mirror
    if is_mini:
        return mini_pretraining(row.epochs * MINI_ITERATIONS, key, mirror)
    return paper_training(
        key, "STU-Net-L", "large", (), schedule=TrainingSchedule("pretrain", 1000 * row.epochs, mirror=mirror)
    )


def _fine_tuning(row: Row, data: Downstream, expected: Expected | None, is_mini: bool) -> TrainingRun:
    schedule = TrainingSchedule("finetune" if row.epochs else None, learning_rate=data.learning_rate, mirror=row.mirror)
    setting = {
        "pre-train epochs": f"{row.epochs}k" if row.epochs else None,
        "pre-train mirror": row.pretrained_with_mirror,
        "fine-tune mirror": row.mirror,
    }
    system, network = ("STU-Net, tiny", "tiny") if is_mini else ("STU-Net-L", "large")
    schedule = short(50, schedule) if is_mini else schedule
    after = row.pretraining
    return downstream_training(row.key, system, network, data, schedule, expected, after=after, setting=setting)


def _runs(is_mini: bool) -> tuple[ExperimentRun, ...]:
    pretrainings = {row.pretraining: _pretraining(row, is_mini) for row in ROWS if row.epochs}
    expected = [(None, None) if is_mini else dsc_expected(row.printed, "Table 8") for row in ROWS]
    trainings = [
        _fine_tuning(row, data, number, is_mini)
        for row, numbers in zip(ROWS, expected, strict=True)
        for data, number in zip(MINI_DOWNSTREAM if is_mini else DATASETS, numbers, strict=True)
    ]
    return (*pretrainings.values(), *trainings)


EXPERIMENT = Experiment(
    name="table8",
    title="Pre-training: how long, and with mirroring or not",
    shows="Pre-training helps most with mirroring in both trainings, and for 4,000 epochs.",
    source="Table 8, section 4.3.3",
    full=_runs(is_mini=False),
    mini=_runs(is_mini=True),
)
