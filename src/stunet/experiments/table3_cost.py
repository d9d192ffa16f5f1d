"""Table 3, its columns of cost: parameters and FLOPs of the twelve systems trained on TotalSegmentator.

Command: `stunet experiment run table3_cost`
Cost: a minute of CPU; no data. UNETR and SwinUNETR need `pip install 'stunet[baselines]'`.
Expected: all 24 numbers equal to the paper's last digit.
"""

from stunet.experiments.counting import MULT_ADDS_REMARK, counts
from stunet.experiments.recipe import Recipe

ROWS = (
    ("nnU-Net", "nnunet"),
    ("nnU-Net*", "nnunet_star"),
    ("nnFormer", "nnformer"),
    ("UNETR-S", "unetr_s"),
    ("UNETR-B", "unetr_b"),
    ("SwinUNETR-S", "swin_unetr_s"),
    ("SwinUNETR-B", "swin_unetr_b"),
    ("SwinUNETR-L", "swin_unetr_l"),
    ("STU-Net-S", "small"),
    ("STU-Net-B", "base"),
    ("STU-Net-L", "large"),
    ("STU-Net-H", "huge"),
)
"""The paper's name of each system, and ours of its network."""

RUNS = counts("Table 3", ROWS)

RECIPE = Recipe(
    name="table3_cost",
    title="Parameters and FLOPs of the systems compared on TotalSegmentator",
    shows="STU-Net-B costs what nnU-Net costs, and the transformers cost more or segment worse.",
    source="Table 3, section 4.1",
    full=RUNS,
    mini=RUNS,
    remarks=(MULT_ADDS_REMARK,),
)
