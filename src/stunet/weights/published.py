"""Preprocessing, source and citation of the published weights."""

from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan

PUBLISHED_PLAN = PreprocessingPlan(
    convention="nnunet_v1",
    spacing=(1.5, 1.5, 1.5),
    patch_size=(128, 128, 128),
    normalization=(ChannelNormalization("zscore"),),
    orientation="RAS",
)
"""Preprocessing of the published weights: nnU-Net v1's "nonCT", the z-score of each whole scan, at 1.5 mm (Z, Y, X).

From `plan_files/*.pkl` of uni-medical/STU-Net. Scans are reoriented to RAS first, as in TotalSegmentator v1.
"""

PUBLISHED_SOURCE = "https://huggingface.co/ziyanhuang/STU-Net"

CITATION = (
    "Huang et al., STU-Net: Scalable and Transferable Medical Image Segmentation Models Empowered by Large-Scale "
    "Supervised Pre-training, arXiv:2304.06716 (2023)"
)
