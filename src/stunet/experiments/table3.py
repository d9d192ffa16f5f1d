"""Table 3 (and Figure 1): twelve systems trained from scratch on TotalSegmentator.

Command: `stunet experiment run table3 --profile full --data totalsegmentator=FOLDER --gpus 8`;
one row: `--only stunet-b`. On a CPU: `stunet experiment run table3 --profile mini --data hippocampus=FOLDER`.
Cost: about 360 hours of an A100 in all, 14 for STU-Net-B, 148 for STU-Net-H;
mini: about 10 minutes of one CPU thread.
Expected: mean DSC of all 104 structures 87.12 % for STU-Net-B, 86.76 % for nnU-Net, 90.06 % for STU-Net-H.

Only its columns of parameters and FLOPs:
Command: `stunet experiment run table3_cost`
Cost: a minute of CPU; no data. UNETR and SwinUNETR need the extra `baselines`.
Expected: all 24 numbers equal to the paper's last digit.
"""

from stunet.experiments.counting import MULT_ADDS_REMARK, NetworkCount, cost_experiment
from stunet.experiments.experiment import Experiment
from stunet.experiments.mini_data import mini_training
from stunet.experiments.paper_data import group_targets, paper_training

SOURCE = "Table 3"

ROWS = (
    ("nnunet", "nnU-Net", "nnunet", "87.45 86.97 88.70 85.05 86.11 86.76"),
    ("nnunet-star", "nnU-Net*", "nnunet_star", "87.48 86.87 88.43 86.42 85.98 86.94"),
    ("nnformer", "nnFormer", "nnformer", "79.26 73.87 75.96 74.97 74.03 75.37"),
    ("unetr-s", "UNETR-S", "unetr_s", "72.59 71.94 72.67 66.20 73.06 71.27"),
    ("unetr-b", "UNETR-B", "unetr_b", "77.11 74.21 77.57 73.29 74.06 75.05"),
    ("swin-unetr-s", "SwinUNETR-S", "swin_unetr_s", "76.29 77.04 76.05 71.33 74.21 74.94"),
    ("swin-unetr-b", "SwinUNETR-B", "swin_unetr_b", "84.18 83.27 83.45 81.07 81.71 82.64"),
    ("swin-unetr-l", "SwinUNETR-L", "swin_unetr_l", "85.39 87.27 85.25 82.97 83.63 84.91"),
    ("stunet-s", "STU-Net-S", "small", "84.72 83.05 84.80 82.92 83.67 83.74"),
    ("stunet-b", "STU-Net-B", "base", "87.67 86.46 88.64 86.46 86.82 87.12"),
    ("stunet-l", "STU-Net-L", "large", "88.92 88.71 89.66 87.61 88.79 88.71"),
    ("stunet-h", "STU-Net-H", "huge", "89.82 90.43 90.89 88.83 90.29 90.06"),
)
"""Run key, name in the paper, network, and mean DSC (%) of organs, vertebrae, cardiac, muscles, ribs, all."""

STUNETS = ROWS[-4:]

MINI_ROWS = (
    ("nnunet", "nnU-Net, tiny", "nnunet_tiny", 120),
    ("unet3d", "3D U-Net, tiny", "unet3d_tiny", 120),
    ("nnformer", "nnFormer, tiny", "nnformer_tiny", 120),
    ("unetr", "UNETR, tiny", "unetr_tiny", 120),
    ("swin-unetr", "SwinUNETR, tiny", "swin_unetr_tiny", 40),
    ("stunet-tiny", "STU-Net, tiny", "tiny", 120),
    ("stunet-s", "STU-Net-S", "small", 120),
)
"""Key, name, network and iterations. Swin UNETR gets fewer, since one of its iterations takes as long as twenty."""


EXPERIMENT = Experiment(
    name="table3",
    title="Systems trained from scratch on TotalSegmentator, and Figure 1",
    shows="STU-Net-B is ahead of nnU-Net and of the transformers, and larger STU-Nets are better.",
    source="Table 3 and Figure 1, section 4.1",
    full=tuple(
        run
        for key, system, network, printed in ROWS
        for run in (
            NetworkCount(system, network, SOURCE),
            paper_training(key, system, network, group_targets(printed)),
        )
    ),
    mini=tuple(
        run
        for key, system, network, iterations in MINI_ROWS
        for run in (NetworkCount(system, network, SOURCE), mini_training(key, system, network, iterations))
    ),
    elsewhere=(
        "DKFZ trained STU-Net S, B and L and nnU-Net from scratch on BTCV, ACDC, LiTS, BraTS, KiTS and AMOS, not on "
        "TotalSegmentator, and found STU-Net-B about equal to nnU-Net (83.05, 91.30, 79.19, 90.85, 86.32, 88.46 "
        "against 83.08, 91.54, 80.09, 91.24, 86.04, 88.64 % DSC): documentation/resenc_presets.md of MIC-DKFZ/nnUNet.",
    ),
    remarks=(MULT_ADDS_REMARK,),
)

COST = cost_experiment(
    name="table3_cost",
    title="Parameters and FLOPs of the systems compared on TotalSegmentator",
    shows="STU-Net-B is as expensive as nnU-Net. The transformers are more expensive or segment worse.",
    source="Table 3, section 4.1",
    systems=[(system, network) for _, system, network, _ in ROWS],
)
