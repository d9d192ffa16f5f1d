"""Figure 4: STU-Nets trained on 5 to 100 % of TotalSegmentator's training cases.

Command: `stunet experiment run figure4 --profile full --data totalsegmentator=FOLDER --gpus 8`;
on a CPU: `stunet experiment run figure4 --profile mini --data hippocampus=FOLDER`.
Cost: about 1,110 hours of an A100 in all; mini: about 12 minutes of one CPU thread.
Expected: each larger STU-Net better at each share; H with 5 % better than S with 100 %. The figure prints no numbers;
those of all cases are Table 3's.

The subsets are nested and hold each label about as often as all cases do: `stunet.datasets.subset`.
"""

from dataclasses import replace

from stunet.experiments.mini_data import HIPPOCAMPUS, HIPPOCAMPUS_TARGETS, short
from stunet.experiments.paper_data import TOTALSEGMENTATOR
from stunet.experiments.recipe import Expected, Recipe, Run
from stunet.experiments.scores import Target
from stunet.experiments.training_run import TrainingRun

FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""The paper names 5 and 20 % (section 4.3.4); the others are ours."""

ROWS = (
    ("stunet-s", "STU-Net-S", "small", "83.74"),
    ("stunet-b", "STU-Net-B", "base", "87.12"),
    ("stunet-l", "STU-Net-L", "large", "88.71"),
    ("stunet-h", "STU-Net-H", "huge", "90.06"),
)
"""Key, the paper's name, the network, and mean DSC (%) with all cases."""

MINI_ROWS = (("stunet-tiny", "STU-Net, tiny", "tiny"), ("stunet-s", "STU-Net-S", "small"))


def _key(key: str, fraction: float) -> str:
    return f"{key}-{round(100 * fraction)}"


def _full() -> tuple[Run, ...]:
    cases = replace(TOTALSEGMENTATOR, fractions=FRACTIONS)
    return tuple(
        TrainingRun(
            key=_key(key, fraction),
            system=system,
            network=network,
            cases=cases,
            targets=(Target(expected=Expected(printed, "Table 3", percent=True) if fraction == 1 else None),),
            fraction=fraction,
            setting={"fraction": fraction},
            plan="published",
        )
        for key, system, network, printed in ROWS
        for fraction in FRACTIONS
    )


def _mini() -> tuple[Run, ...]:
    cases = replace(HIPPOCAMPUS, fractions=FRACTIONS)
    return tuple(
        TrainingRun(
            key=_key(key, fraction),
            system=system,
            network=network,
            cases=cases,
            targets=HIPPOCAMPUS_TARGETS,
            schedule=short(200),
            fraction=fraction,
            setting={"fraction": fraction},
            classes=3,
        )
        for key, system, network in MINI_ROWS
        for fraction in FRACTIONS
    )


RECIPE = Recipe(
    name="figure4",
    title="How many training cases STU-Nets of each size need",
    shows="Larger STU-Nets are better whatever the number of cases, and more cases help all of them.",
    source="Figure 4, section 4.3.4",
    full=_full(),
    mini=_mini(),
)
