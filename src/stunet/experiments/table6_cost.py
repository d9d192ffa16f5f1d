"""Table 6, its columns of cost: parameters and FLOPs of the architectural variants of STU-Net-B.

Command: `stunet experiment run table6_cost`
Cost: a few seconds of CPU; no data.
Expected: all 12 numbers equal to the paper's last digit.
"""

from stunet.experiments.counting import MULT_ADDS_REMARK, counts
from stunet.experiments.recipe import Recipe

ROWS = (
    ("nnU-Net", "nnunet"),
    ("nnU-Net*", "nnunet_star"),
    ("STU-Net-B", "base"),
    ("STU-Net-B (Replace w/ Conv DS)", "base_convolution"),
    ("STU-Net-B (Replace w/ Transpose Conv US)", "base_transposed"),
    ("STU-Net-B (Replace w/ Trilinear Interpolation US)", "base_trilinear"),
)
"""The paper's name of each system, and ours of its network."""

RUNS = counts("Table 6", ROWS)

RECIPE = Recipe(
    name="table6_cost",
    title="Parameters and FLOPs of the variants of STU-Net-B",
    shows="Neither separate convolutions for down-sampling nor transposed ones for up-sampling are cheaper.",
    source="Table 6, section 4.3.1",
    full=RUNS,
    mini=RUNS,
    remarks=(MULT_ADDS_REMARK,),
)
