"""Figure 5: one STU-Net for all 104 structures against five experts, one for each group.

Command: `stunet experiment run figure5 --profile full --data totalsegmentator=FOLDER --gpus 8`;
on a CPU: `stunet experiment run figure5 --profile mini --data hippocampus=FOLDER`.
Cost: about 1,330 hours of an A100 in all; mini: about 4 minutes of one CPU thread.
Expected: of all structures, 90.06 % DSC for the universal STU-Net-H, 89.07 % for the best experts. The figure prints no
other numbers; those of the universal models are Table 3's.

The groups are the five part models of TotalSegmentator v1: `stunet.labels.ontology.GROUPS`. In the mini each of two
labels is a group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stunet.experiments.cases import Cases
from stunet.experiments.means import MeanOverTargets
from stunet.experiments.mini_data import HIPPOCAMPUS, HIPPOCAMPUS_LABELS, HIPPOCAMPUS_TARGETS, short
from stunet.experiments.paper_data import TOTALSEGMENTATOR, dsc_expected, group_targets
from stunet.experiments.recipe import Expected, Recipe, Run
from stunet.experiments.results import Measurement
from stunet.experiments.scores import Target
from stunet.experiments.training_run import Schedule, TrainingRun
from stunet.labels.ontology import GROUPS

ROWS = (
    ("stunet-s", "STU-Net-S", "small", "84.72 83.05 84.80 82.92 83.67 83.74"),
    ("stunet-b", "STU-Net-B", "base", "87.67 86.46 88.64 86.46 86.82 87.12"),
    ("stunet-l", "STU-Net-L", "large", "88.92 88.71 89.66 87.61 88.79 88.71"),
    ("stunet-h", "STU-Net-H", "huge", "89.82 90.43 90.89 88.83 90.29 90.06"),
)
"""Key, the paper's name, the network, and mean DSC (%) of the universal model for the groups and for all (Table 3)."""

MINI_ROWS = (("stunet-tiny", "STU-Net, tiny", "tiny"), ("stunet-s", "STU-Net-S", "small"))

MINI_GROUPS = {label: (label,) for label in HIPPOCAMPUS_LABELS}

MODEL, UNIVERSAL, EXPERT = "model", "universal", "expert"
"""The setting that tells the two apart, and its values."""


def _experts(
    key: str, system: str, network: str, cases: Cases, groups: Mapping[str, tuple[str, ...]], schedule: Schedule
) -> list[Run]:
    return [
        TrainingRun(
            key=f"{key}-{group.lower()}",
            system=system,
            network=network,
            cases=replace(cases, number=cases.number + number, name=f"{cases.name} {group}", labels=labels),
            targets=(Target(group),),
            schedule=schedule,
            setting={MODEL: EXPERT},
            plan="published" if cases is TOTALSEGMENTATOR else "nnunet",
            classes=len(labels) + 1,
        )
        for number, (group, labels) in enumerate(groups.items(), start=1)
    ]


def _full() -> tuple[Run, ...]:
    runs: list[Run] = []
    for key, system, network, printed in ROWS:
        targets = group_targets(dsc_expected(printed, "Table 3"))
        universal = TrainingRun(
            f"{key}-universal",
            system,
            network,
            TOTALSEGMENTATOR,
            targets,
            setting={MODEL: UNIVERSAL},
            plan="published",
        )
        runs += [universal, *_experts(key, system, network, TOTALSEGMENTATOR, GROUPS, Schedule())]
    return tuple(runs)


def _mini() -> tuple[Run, ...]:
    runs: list[Run] = []
    for key, system, network in MINI_ROWS:
        universal = TrainingRun(
            f"{key}-universal",
            system,
            network,
            HIPPOCAMPUS,
            HIPPOCAMPUS_TARGETS,
            short(80),
            setting={MODEL: UNIVERSAL},
            classes=3,
        )
        runs += [universal, *_experts(key, system, network, HIPPOCAMPUS, MINI_GROUPS, short(80))]
    return tuple(runs)


EXPERTS_TOGETHER = MeanOverTargets(
    "all",
    {group: len(labels) for group, labels in GROUPS.items()},
    {"STU-Net-H": Expected("89.07", "section 4.4, the experts' highest", percent=True)},
    {MODEL: EXPERT},
)

MINI_EXPERTS_TOGETHER = MeanOverTargets("all", dict.fromkeys(HIPPOCAMPUS_LABELS, 1), setting={MODEL: EXPERT})


def experts_together(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The experts' mean over all structures, of the groups of either profile."""
    return [*EXPERTS_TOGETHER(measurements), *MINI_EXPERTS_TOGETHER(measurements)]


RECIPE = Recipe(
    name="figure5",
    title="One universal model against an expert for each group of structures",
    shows="The largest universal model is better than its experts together.",
    source="Figure 5, section 4.4",
    full=_full(),
    mini=_mini(),
    derive=experts_together,
)
