"""The datasets of the paper's trainings, as a full experiment expects them: in nnU-Net's raw layout."""

from dataclasses import dataclass
from typing import Any

from stunet.experiments.experiment import Expected
from stunet.experiments.scores import ALL, ScoredTarget
from stunet.experiments.training_cases import TrainingCases
from stunet.experiments.training_run import TrainingRun, TrainingSchedule
from stunet.labels.mapping import load_mapping
from stunet.labels.ontology import GROUPS


@dataclass(frozen=True)
class DataSource:
    """Where a dataset comes from.

    Attributes:
        says: a description.
        command: converts it to nnU-Net's raw layout; "" if there is nothing to convert.
    """

    says: str
    command: str = ""


_CONVERT = "stunet dataset convert"

DATA_SOURCES: dict[str, DataSource] = {
    "totalsegmentator": DataSource(
        "TotalSegmentator v1: 1081 CT to train on, 57 to validate on, 104 structures",
        f"{_CONVERT} totalsegmentator FOLDER --id 1",
    ),
    "flare22": DataSource("FLARE22: the 50 labelled CT, 13 organs", f"{_CONVERT} flare22 FOLDER --id 22"),
    "flare22_validation": DataSource(
        "FLARE22: the 20 official validation cases with labels, named and numbered as the training cases are"
    ),
    "amos22": DataSource("AMOS22: CT and MR, official split, 15 organs", f"{_CONVERT} amos22 FOLDER --id 23"),
    "amos22_ct": DataSource("AMOS22: CT alone", f"{_CONVERT} amos22 FOLDER --id 24 --modality CT"),
    "amos22_mr": DataSource("AMOS22: MR alone", f"{_CONVERT} amos22 FOLDER --id 25 --modality MR"),
    "autopet22": DataSource(
        "AutoPET22: CT and PET of the 501 studies with lesions; the paper's 398 and 103 are not published, so fold 0 "
        "of a split by patients is used instead",
        f"{_CONVERT} autopet22 FOLDER --id 26 --only-labelled",
    ),
    "autopet22_ct": DataSource(
        "AutoPET22: CT alone", f"{_CONVERT} autopet22 FOLDER --id 27 --only-labelled --modality CT"
    ),
    "autopet22_pet": DataSource(
        "AutoPET22: PET alone", f"{_CONVERT} autopet22 FOLDER --id 28 --only-labelled --modality PET"
    ),
    "model": DataSource("A model of your own: a file, or a model folder of nnU-Net"),
    "hippocampus": DataSource(
        "Task04 Hippocampus of the Medical Segmentation Decathlon: MR, 26 cases are used",
        f"{_CONVERT} msd Task04_Hippocampus --id 4",
    ),
    "stspet": DataSource(
        "FDG-PET of soft-tissue sarcoma with the tumour, 16 cases are used; github.com/theibsi/data_sets"
    ),
    "totalseg_example": DataSource(
        "A CT of the abdomen with 57 of the 104 structures; from the tests of github.com/wasserth/TotalSegmentator"
    ),
}
"""By name in `--data`."""


def data_source(name: str) -> DataSource:
    """The source of a dataset named in `--data`. For direct inference, it comes from the dataset's mapping."""
    if name in DATA_SOURCES:
        return DATA_SOURCES[name]
    mapping = load_mapping(name)
    return DataSource(f"{mapping.title}: {mapping.cases} annotated scans; {mapping.source}")


TOTALSEGMENTATOR = TrainingCases(1, "TotalSegmentator", "totalsegmentator")
FLARE22 = TrainingCases(22, "FLARE22", "flare22", validation="flare22_validation")
AMOS = TrainingCases(23, "AMOS", "amos22")
AMOS_CT = TrainingCases(24, "AMOS-CT", "amos22_ct")
AMOS_MR = TrainingCases(25, "AMOS-MR", "amos22_mr")
AUTOPET = TrainingCases(26, "AutoPET", "autopet22")
AUTOPET_CT = TrainingCases(27, "AutoPET-CT", "autopet22_ct")
AUTOPET_PET = TrainingCases(28, "AutoPET-PET", "autopet22_pet")


@dataclass(frozen=True)
class Downstream:
    """A dataset to fine-tune on.

    Attributes:
        cases: its cases.
        classes: including background.
        channels: of its images.
        learning_rate: the initial one; None is the training recipe's 0.01 (section 4: AutoPET starts at 0.001).
    """

    cases: TrainingCases
    classes: int
    channels: int = 1
    learning_rate: float | None = None


AUTOPET_LEARNING_RATE = 0.001
"""Section 4, implementation details."""

DOWNSTREAM: tuple[Downstream, ...] = (
    Downstream(FLARE22, 14),
    Downstream(AMOS, 16),
    Downstream(AMOS_CT, 16),
    Downstream(AMOS_MR, 16),
    Downstream(AUTOPET, 2, 2, AUTOPET_LEARNING_RATE),
    Downstream(AUTOPET_CT, 2, 1, AUTOPET_LEARNING_RATE),
    Downstream(AUTOPET_PET, 2, 1, AUTOPET_LEARNING_RATE),
)
"""The columns of Table 5, in order."""


def dsc_expected(printed: str, source: str) -> tuple[Expected, ...]:
    """The DSC of a row, in percent as printed, separated by blanks.

    >>> [expected.value for expected in dsc_expected("87.45 86.97", "Table 3")]
    [0.8745, 0.8697]
    """
    return tuple(Expected(number, source, percent=True) for number in printed.split())


def group_targets(printed: str) -> tuple[ScoredTarget, ...]:
    """The columns of Table 3: the five groups and all 104 structures, with the DSC (%) of one row."""
    names = {**GROUPS, ALL: ()}
    expected = dsc_expected(printed, "Table 3")
    return tuple(ScoredTarget(*column, number) for column, number in zip(names.items(), expected, strict=True))


def mean_target(printed: str, source: str) -> tuple[ScoredTarget, ...]:
    """The single column of a table that shows only the mean DSC (%) over all structures."""
    return (ScoredTarget(expected=Expected(printed, source, percent=True)),)


def paper_training(key: str, system: str, network: str, targets: tuple[ScoredTarget, ...], **more: Any) -> TrainingRun:
    """A training on TotalSegmentator with the published plan. `more` are fields of `TrainingRun`."""
    fields: dict[str, Any] = {"cases": TOTALSEGMENTATOR, "targets": targets, "plan": "published", **more}
    return TrainingRun(key, system, network, **fields)


def downstream_training(
    key: str,
    system: str,
    network: str,
    data: Downstream,
    schedule: TrainingSchedule,
    expected: Expected | None = None,
    **more: Any,
) -> TrainingRun:
    """A training on a downstream dataset. `more` are fields of `TrainingRun`."""
    target = ScoredTarget(data.cases.name, (), expected)
    fields: dict[str, Any] = {"classes": data.classes, "channels": data.channels, **more}
    return TrainingRun(f"{key}-{data.cases.source}", system, network, data.cases, (target,), schedule, **fields)
