"""Figure 4: STU-Nets trained on 5 to 100 % of TotalSegmentator's training cases.

Command: `stunet experiment run figure4 --profile full --data totalsegmentator=FOLDER --gpus 8`;
on a CPU: `stunet experiment run figure4 --profile mini --data hippocampus=FOLDER`.
Cost: about 1,110 hours of an A100 in all; mini: about 12 minutes of one CPU thread.
Expected: a larger STU-Net is better at every fraction; H with 5 % is better than S with 100 %. The figure prints no
numbers; Table 3 has those for all cases.

The subsets are nested and contain each label about as often as all cases do: `stunet.datasets.subset`.
"""

from dataclasses import replace

from stunet.experiments.experiment import Experiment
from stunet.experiments.mini_data import HIPPOCAMPUS, MINI_STUNETS, mini_training
from stunet.experiments.paper_data import TOTALSEGMENTATOR, mean_target, paper_training
from stunet.experiments.scores import ScoredTarget
from stunet.experiments.table3 import STUNETS

FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)
"""The paper names 5 and 20 % (section 4.3.4). The others are our choice."""


def _key(key: str, fraction: float) -> str:
    return f"{key}-{round(100 * fraction)}"


EXPERIMENT = Experiment(
    name="figure4",
    title="How many training cases STU-Nets of each size need",
    shows="Larger STU-Nets are better with any number of cases, and more cases help all of them.",
    source="Figure 4, section 4.3.4",
    full=tuple(
        paper_training(
            _key(key, fraction),
            system,
            network,
            mean_target(printed.split()[-1], "Table 3") if fraction == 1 else (ScoredTarget(),),
            cases=replace(TOTALSEGMENTATOR, fractions=FRACTIONS),
            fraction=fraction,
            setting={"fraction": fraction},
        )
        for key, system, network, printed in STUNETS
        for fraction in FRACTIONS
    ),
    mini=tuple(
        mini_training(
            _key(key, fraction),
            system,
            network,
            200,
            cases=replace(HIPPOCAMPUS, fractions=FRACTIONS),
            fraction=fraction,
            setting={"fraction": fraction},
        )
        for key, system, network in MINI_STUNETS
        for fraction in FRACTIONS
    ),
)
