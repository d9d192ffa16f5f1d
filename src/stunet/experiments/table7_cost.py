"""Table 7, its columns of cost: parameters and FLOPs of nnU-Net* and STU-Net, deeper, wider and both.

Command: `stunet experiment run table7_cost`
Cost: a minute of CPU; no data.
Expected: all 36 numbers equal to the paper's last digit.
"""

from stunet.experiments.counting import MULT_ADDS_REMARK, counts
from stunet.experiments.recipe import Recipe

ROWS = (
    ("nnU-Net* (d=1.0, w=1.0)", "nnunet_star"),
    ("STU-Net (d=1.0, w=1.0)", "base"),
    ("scale nnU-Net* by width (w=2.0)", "nnunet_star_w2"),
    ("scale STU-Net by width (w=2.0)", "base_w2"),
    ("scale nnU-Net* by width (w=3.0)", "nnunet_star_w3"),
    ("scale STU-Net by width (w=3.0)", "base_w3"),
    ("scale nnU-Net* by width (w=4.0)", "nnunet_star_w4"),
    ("scale STU-Net by width (w=4.0)", "base_w4"),
    ("scale nnU-Net* by depth (d=2.0)", "nnunet_star_d2"),
    ("scale STU-Net by depth (d=2.0)", "base_d2"),
    ("scale nnU-Net* by depth (d=3.0)", "nnunet_star_d3"),
    ("scale STU-Net by depth (d=3.0)", "base_d3"),
    ("scale nnU-Net* by depth (d=4.0)", "nnunet_star_d4"),
    ("scale STU-Net by depth (d=4.0)", "base_d4"),
    ("nnU-Net* compound scale (d=2.0, w=2.0)", "nnunet_star_d2_w2"),
    ("STU-Net compound scale (d=2.0, w=2.0)", "large"),
    ("nnU-Net* compound scale (d=3.0, w=3.0)", "nnunet_star_d3_w3"),
    ("STU-Net compound scale (d=3.0, w=3.0)", "huge"),
)
"""The paper's name of each system, and ours of its network."""

RUNS = counts("Table 7", ROWS)

RECIPE = Recipe(
    name="table7_cost",
    title="Parameters and FLOPs of nnU-Net* and STU-Net, deeper, wider and both",
    shows="At every scaling both cost about the same, so their scores can be compared.",
    source="Table 7, section 4.3.2",
    full=RUNS,
    mini=RUNS,
    remarks=(MULT_ADDS_REMARK,),
)
