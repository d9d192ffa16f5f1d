"""Table 6: architectural variants of STU-Net-B, trained from scratch on TotalSegmentator.

Command: `stunet experiment run table6 --profile full --data totalsegmentator=FOLDER`;
on a CPU: `stunet experiment run table6 --profile mini --data hippocampus=FOLDER`.
Cost: about 84 hours of an A100 in all, 14 for each row; mini: meant for less than 15 minutes of a CPU.
Expected: mean DSC 87.12 % for STU-Net-B, and 0.16 to 0.71 points less for its variants.
"""

from stunet.experiments.mini_data import HIPPOCAMPUS, HIPPOCAMPUS_TARGETS, short
from stunet.experiments.paper_data import TOTALSEGMENTATOR
from stunet.experiments.recipe import Expected, Recipe
from stunet.experiments.scores import Target
from stunet.experiments.training_run import TrainingRun

ROWS = (
    ("nnunet", "nnU-Net", "nnunet", "86.76"),
    ("nnunet-star", "nnU-Net*", "nnunet_star", "86.94"),
    ("stunet-b", "STU-Net-B", "base", "87.12"),
    ("convolution-down", "STU-Net-B (Replace w/ Conv DS)", "base_convolution", "86.41"),
    ("transposed-up", "STU-Net-B (Replace w/ Transpose Conv US)", "base_transposed", "86.96"),
    ("trilinear-up", "STU-Net-B (Replace w/ Trilinear Interpolation US)", "base_trilinear", "86.67"),
)
"""Key of the run, the paper's name, the network, and mean DSC (%) of all structures."""

MINI_ROWS = (
    ("nnunet", "nnU-Net, tiny", "nnunet_tiny"),
    ("stunet", "STU-Net, tiny", "tiny"),
    ("convolution-down", "STU-Net, tiny (Replace w/ Conv DS)", "tiny_convolution"),
    ("transposed-up", "STU-Net, tiny (Replace w/ Transpose Conv US)", "tiny_transposed"),
    ("trilinear-up", "STU-Net, tiny (Replace w/ Trilinear Interpolation US)", "tiny_trilinear"),
)

RECIPE = Recipe(
    name="table6",
    title="Variants of STU-Net-B on TotalSegmentator",
    shows="Down-sampling in the first residual block and nearest up-sampling are better than the alternatives.",
    source="Table 6, section 4.3.1",
    full=tuple(
        TrainingRun(
            key,
            system,
            network,
            TOTALSEGMENTATOR,
            (Target(expected=Expected(printed, "Table 6", percent=True)),),
            plan="published",
        )
        for key, system, network, printed in ROWS
    ),
    mini=tuple(
        TrainingRun(key, system, network, HIPPOCAMPUS, HIPPOCAMPUS_TARGETS, short(120), classes=3)
        for key, system, network in MINI_ROWS
    ),
)
