"""Table 7: nnU-Net* and STU-Net, deeper, wider and both, trained from scratch on TotalSegmentator.

Command: `stunet experiment run table7 --profile full --data totalsegmentator=FOLDER --gpus 8`;
on a CPU: `stunet experiment run table7 --profile mini --data hippocampus=FOLDER`.
Cost: about 940 hours of an A100 in all; mini: about 6 minutes of one CPU thread.
Expected: mean DSC 87.12 % for STU-Net-B, 88.71 % with twice and 90.06 % with three times its depth and width; nnU-Net*
falls from 86.94 to 81.45 % with depth.

Only its columns of parameters and FLOPs:
Command: `stunet experiment run table7_cost`
Cost: a minute of CPU; no data.
Expected: all 36 numbers equal to the paper's last digit.
"""

from stunet.experiments.counting import cost_experiment
from stunet.experiments.experiment import Experiment
from stunet.experiments.mini_data import mini_training
from stunet.experiments.paper_data import mean_target, paper_training

ROWS = (
    ("nnunet_star", "nnU-Net* (d=1.0, w=1.0)", "86.94"),
    ("base", "STU-Net (d=1.0, w=1.0)", "87.12"),
    ("nnunet_star_w2", "scale nnU-Net* by width (w=2.0)", "87.29"),
    ("base_w2", "scale STU-Net by width (w=2.0)", "88.08"),
    ("nnunet_star_w3", "scale nnU-Net* by width (w=3.0)", "87.80"),
    ("base_w3", "scale STU-Net by width (w=3.0)", "88.85"),
    ("nnunet_star_w4", "scale nnU-Net* by width (w=4.0)", "88.84"),
    ("base_w4", "scale STU-Net by width (w=4.0)", "89.19"),
    ("nnunet_star_d2", "scale nnU-Net* by depth (d=2.0)", "85.65"),
    ("base_d2", "scale STU-Net by depth (d=2.0)", "87.72"),
    ("nnunet_star_d3", "scale nnU-Net* by depth (d=3.0)", "83.70"),
    ("base_d3", "scale STU-Net by depth (d=3.0)", "87.99"),
    ("nnunet_star_d4", "scale nnU-Net* by depth (d=4.0)", "81.45"),
    ("base_d4", "scale STU-Net by depth (d=4.0)", "87.58"),
    ("nnunet_star_d2_w2", "nnU-Net* compound scale (d=2.0, w=2.0)", "87.42"),
    ("large", "STU-Net compound scale (d=2.0, w=2.0)", "88.71"),
    ("nnunet_star_d3_w3", "nnU-Net* compound scale (d=3.0, w=3.0)", "87.50"),
    ("huge", "STU-Net compound scale (d=3.0, w=3.0)", "90.06"),
)
"""Network, name in the paper, and mean DSC (%) of all structures."""

MINI_ROWS = (
    ("nnunet_tiny", "nnU-Net, tiny", 1, 1),
    ("tiny", "STU-Net, tiny", 1, 1),
    ("nnunet_tiny_w2", "nnU-Net, tiny", 1, 2),
    ("small", "STU-Net, tiny", 1, 2),
    ("nnunet_tiny_d2", "nnU-Net, tiny", 2, 1),
    ("tiny_d2", "STU-Net, tiny", 2, 1),
)
"""Network, name, and factors of depth and width."""

EXPERIMENT = Experiment(
    name="table7",
    title="Depth, width and both, of nnU-Net* and STU-Net, on TotalSegmentator",
    shows="Wider networks are better; only STU-Net gains from depth; both together is best.",
    source="Table 7, section 4.3.2",
    full=tuple(
        paper_training(network, system, network, mean_target(printed, "Table 7")) for network, system, printed in ROWS
    ),
    mini=tuple(
        mini_training(network, system, network, 120, setting={"d": depth, "w": width})
        for network, system, depth, width in MINI_ROWS
    ),
)

COST = cost_experiment(
    name="table7_cost",
    title="Parameters and FLOPs of nnU-Net* and STU-Net, deeper, wider and both",
    shows="At every scaling both cost about the same, so their scores can be compared.",
    source="Table 7, section 4.3.2",
    systems=[(system, network) for network, system, _ in ROWS],
)
