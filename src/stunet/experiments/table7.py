"""Table 7: nnU-Net* and STU-Net, deeper, wider and both, trained from scratch on TotalSegmentator.

Command: `stunet experiment run table7 --profile full --data totalsegmentator=FOLDER --gpus 8`;
on a CPU: `stunet experiment run table7 --profile mini --data hippocampus=FOLDER`.
Cost: about 940 hours of an A100 in all; mini: about 6 minutes of one CPU thread.
Expected: mean DSC 87.12 % for STU-Net-B, 88.71 % with twice, 90.06 % with three times its depth and width; deeper
nnU-Net* falls from 86.94 to 81.45 %.
"""

from stunet.experiments.mini_data import HIPPOCAMPUS, HIPPOCAMPUS_TARGETS, short
from stunet.experiments.paper_data import TOTALSEGMENTATOR
from stunet.experiments.recipe import Expected, Recipe, Run
from stunet.experiments.results import Setting
from stunet.experiments.scores import Target
from stunet.experiments.table7_cost import ROWS as SYSTEMS
from stunet.experiments.training_run import TrainingRun

PRINTED = (
    *("86.94", "87.12", "87.29", "88.08", "87.80", "88.85", "88.84", "89.19"),
    *("85.65", "87.72", "83.70", "87.99", "81.45", "87.58"),
    *("87.42", "88.71", "87.50", "90.06"),
)
"""Mean DSC (%) of all structures, in the order of the rows."""

MINI_ROWS = (
    ("nnunet_tiny", "nnU-Net, tiny", 1, 1),
    ("tiny", "STU-Net, tiny", 1, 1),
    ("nnunet_tiny_w2", "nnU-Net, tiny", 1, 2),
    ("small", "STU-Net, tiny", 1, 2),
    ("nnunet_tiny_d2", "nnU-Net, tiny", 2, 1),
    ("tiny_d2", "STU-Net, tiny", 2, 1),
)
"""The network, its name, and by how much it is deeper and wider."""


def _full() -> tuple[Run, ...]:
    runs = []
    for (system, network), printed in zip(SYSTEMS, PRINTED, strict=True):
        target = Target(expected=Expected(printed, "Table 7", percent=True))
        runs.append(TrainingRun(network, system, network, TOTALSEGMENTATOR, (target,), plan="published"))
    return tuple(runs)


def _mini() -> tuple[Run, ...]:
    runs = []
    for network, system, depth, width in MINI_ROWS:
        setting: Setting = {"d": depth, "w": width}
        runs.append(
            TrainingRun(
                network, system, network, HIPPOCAMPUS, HIPPOCAMPUS_TARGETS, short(120), setting=setting, classes=3
            )
        )
    return tuple(runs)


RECIPE = Recipe(
    name="table7",
    title="Depth, width and both, of nnU-Net* and STU-Net, on TotalSegmentator",
    shows="Wider networks are better; only STU-Net gains from depth; both together is best.",
    source="Table 7, section 4.3.2",
    full=_full(),
    mini=_mini(),
)
