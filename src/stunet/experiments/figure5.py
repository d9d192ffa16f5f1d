"""Figure 5: one STU-Net for all 104 structures compared with five experts, one per group.

Command: `stunet experiment run figure5 --profile full --data totalsegmentator=FOLDER --gpus 8`;
on a CPU: `stunet experiment run figure5 --profile mini --data hippocampus=FOLDER`.
Cost: about 1,330 hours of an A100 in all; mini: about 4 minutes of one CPU thread.
Expected: over all structures, 90.06 % DSC for the universal STU-Net-H and 89.07 % for the best experts. The figure
prints no other numbers; Table 3 has those of the universal models.

The groups are the five part models of TotalSegmentator v1: `stunet.labels.ontology.GROUPS`. In the mini profile, each
of two labels is a group.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from stunet.experiments.experiment import Expected, Experiment
from stunet.experiments.mini_data import HIPPOCAMPUS_LABELS, MINI_STUNETS, mini_training
from stunet.experiments.paper_data import group_targets, paper_training
from stunet.experiments.results import Measurement
from stunet.experiments.scores import ALL, MeanOverTargets, ScoredTarget
from stunet.experiments.table3 import STUNETS
from stunet.experiments.training_run import TrainingRun
from stunet.labels.ontology import GROUPS

MINI_GROUPS = {label: (label,) for label in HIPPOCAMPUS_LABELS}

MODEL, UNIVERSAL, EXPERT = "model", "universal", "expert"
"""The setting that distinguishes experts from universal models, and its values."""


def _with_experts(training: TrainingRun, groups: Mapping[str, tuple[str, ...]]) -> list[TrainingRun]:
    """The training of a universal model, and the same training of an expert for each group of labels."""
    cases = training.cases
    universal = replace(training, key=f"{training.key}-{UNIVERSAL}", setting={MODEL: UNIVERSAL})
    experts = [
        replace(
            training,
            key=f"{training.key}-{group.lower()}",
            cases=replace(cases, number=cases.number + number, name=f"{cases.name} {group}", labels=labels),
            targets=(ScoredTarget(group),),
            setting={MODEL: EXPERT},
            classes=len(labels) + 1,
        )
        for number, (group, labels) in enumerate(groups.items(), start=1)
    ]
    return [universal, *experts]


EXPERTS_TOGETHER = MeanOverTargets(
    ALL,
    {group: len(labels) for group, labels in GROUPS.items()},
    {"STU-Net-H": Expected("89.07", "section 4.4, the experts' highest", percent=True)},
    {MODEL: EXPERT},
)

MINI_EXPERTS_TOGETHER = MeanOverTargets(ALL, dict.fromkeys(HIPPOCAMPUS_LABELS, 1), setting={MODEL: EXPERT})


def experts_together(measurements: Sequence[Measurement]) -> list[Measurement]:
    """The experts' mean over all structures, for the groups of either profile."""
    return [*EXPERTS_TOGETHER(measurements), *MINI_EXPERTS_TOGETHER(measurements)]


EXPERIMENT = Experiment(
    name="figure5",
    title="One universal model against an expert for each group of structures",
    shows="The largest universal model is better than its experts together.",
    source="Figure 5, section 4.4",
    full=tuple(
        run
        for key, system, network, printed in STUNETS
        for run in _with_experts(paper_training(key, system, network, group_targets(printed)), GROUPS)
    ),
    mini=tuple(run for row in MINI_STUNETS for run in _with_experts(mini_training(*row, iterations=80), MINI_GROUPS)),
    derive=experts_together,
)
