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

from stunet.experiments.experiment import Expected, Experiment, ExperimentRun
from stunet.experiments.mini_data import HIPPOCAMPUS, HIPPOCAMPUS_LABELS, MINI_STUNETS, mini_training, short
from stunet.experiments.paper_data import TOTALSEGMENTATOR, group_targets, paper_training
from stunet.experiments.results import Measurement
from stunet.experiments.scores import ALL, MeanOverTargets, ScoredTarget
from stunet.experiments.table3 import STUNETS
from stunet.experiments.training_cases import TrainingCases
from stunet.experiments.training_run import TrainingRun, TrainingSchedule
from stunet.labels.ontology import GROUPS

MINI_GROUPS = {label: (label,) for label in HIPPOCAMPUS_LABELS}

MODEL, UNIVERSAL, EXPERT = "model", "universal", "expert"
"""The setting that tells the two apart, and its values."""


def _experts(
    key: str,
    system: str,
    network: str,
    cases: TrainingCases,
    groups: Mapping[str, tuple[str, ...]],
    schedule: TrainingSchedule,
) -> list[ExperimentRun]:
    return [
        TrainingRun(
            key=f"{key}-{group.lower()}",
            system=system,
            network=network,
            cases=replace(cases, number=cases.number + number, name=f"{cases.name} {group}", labels=labels),
            targets=(ScoredTarget(group),),
            schedule=schedule,
            setting={MODEL: EXPERT},
            plan="published" if cases is TOTALSEGMENTATOR else "nnunet",
            classes=len(labels) + 1,
        )
        for number, (group, labels) in enumerate(groups.items(), start=1)
    ]


def _full() -> tuple[ExperimentRun, ...]:
    runs: list[ExperimentRun] = []
    for key, system, network, printed in STUNETS:
        setting = {MODEL: UNIVERSAL}
        runs.append(paper_training(f"{key}-universal", system, network, group_targets(printed), setting=setting))
        runs += _experts(key, system, network, TOTALSEGMENTATOR, GROUPS, TrainingSchedule())
    return tuple(runs)


def _mini() -> tuple[ExperimentRun, ...]:
    runs: list[ExperimentRun] = []
    for key, system, network in MINI_STUNETS:
        runs.append(mini_training(f"{key}-universal", system, network, 80, setting={MODEL: UNIVERSAL}))
        runs += _experts(key, system, network, HIPPOCAMPUS, MINI_GROUPS, short(80))
    return tuple(runs)


EXPERTS_TOGETHER = MeanOverTargets(
    ALL,
    {group: len(labels) for group, labels in GROUPS.items()},
    {"STU-Net-H": Expected("89.07", "section 4.4, the experts' highest", percent=True)},
    {MODEL: EXPERT},
)

MINI_EXPERTS_TOGETHER = MeanOverTargets(ALL, dict.fromkeys(HIPPOCAMPUS_LABELS, 1), setting={MODEL: EXPERT})


def experts_together(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The experts' mean over all structures, of the groups of either profile."""
    return [*EXPERTS_TOGETHER(measurements), *MINI_EXPERTS_TOGETHER(measurements)]


EXPERIMENT = Experiment(
    name="figure5",
    title="One universal model against an expert for each group of structures",
    shows="The largest universal model is better than its experts together.",
    source="Figure 5, section 4.4",
    full=_full(),
    mini=_mini(),
    derive=experts_together,
)
