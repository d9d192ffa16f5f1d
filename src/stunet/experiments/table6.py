"""Table 6: architectural variants of STU-Net-B, trained from scratch on TotalSegmentator.

Command: `stunet experiment run table6 --profile full --data totalsegmentator=FOLDER`;
on a CPU: `stunet experiment run table6 --profile mini --data hippocampus=FOLDER`.
Cost: about 84 hours of an A100 in all, 14 for each row; mini: meant for less than 15 minutes of a CPU.
Expected: mean DSC 87.12 % for STU-Net-B, and 0.16 to 0.71 points less for its variants.

Only its columns of parameters and FLOPs:
Command: `stunet experiment run table6_cost`
Cost: a few seconds of CPU; no data.
Expected: all 12 numbers equal to the paper's last digit.
"""

from stunet.experiments.counting import cost_experiment
from stunet.experiments.experiment import Experiment
from stunet.experiments.mini_data import mini_training
from stunet.experiments.paper_data import mean_target, paper_training

ROWS = (
    ("nnunet", "nnU-Net", "nnunet", "86.76"),
    ("nnunet-star", "nnU-Net*", "nnunet_star", "86.94"),
    ("stunet-b", "STU-Net-B", "base", "87.12"),
    ("convolution-down", "STU-Net-B (Replace w/ Conv DS)", "base_convolution", "86.41"),
    ("transposed-up", "STU-Net-B (Replace w/ Transpose Conv US)", "base_transposed", "86.96"),
    ("trilinear-up", "STU-Net-B (Replace w/ Trilinear Interpolation US)", "base_trilinear", "86.67"),
)
"""Run key, name in the paper, network, and mean DSC (%) of all structures."""

MINI_ROWS = (
    ("nnunet", "nnU-Net, tiny", "nnunet_tiny"),
    ("stunet", "STU-Net, tiny", "tiny"),
    ("convolution-down", "STU-Net, tiny (Replace w/ Conv DS)", "tiny_convolution"),
    ("transposed-up", "STU-Net, tiny (Replace w/ Transpose Conv US)", "tiny_transposed"),
    ("trilinear-up", "STU-Net, tiny (Replace w/ Trilinear Interpolation US)", "tiny_trilinear"),
)

EXPERIMENT = Experiment(
    name="table6",
    title="Variants of STU-Net-B on TotalSegmentator",
    shows="Down-sampling in the first residual block and nearest up-sampling are better than the alternatives.",
    source="Table 6, section 4.3.1",
    full=tuple(
        paper_training(key, system, network, mean_target(printed, "Table 6")) for key, system, network, printed in ROWS
    ),
    mini=tuple(mini_training(*row, iterations=120) for row in MINI_ROWS),
)

COST = cost_experiment(
    name="table6_cost",
    title="Parameters and FLOPs of the variants of STU-Net-B",
    shows="Neither separate convolutions for down-sampling nor transposed ones for up-sampling are cheaper.",
    source="Table 6, section 4.3.1",
    systems=[(system, network) for _, system, network, _ in ROWS],
)
