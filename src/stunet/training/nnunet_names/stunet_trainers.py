"""The trainers' names, where nnU-Net looks for them: `nnUNet_extTrainer` points at this folder."""

from stunet.training.trainers import (  # noqa: F401
    STUNetTrainer,
    STUNetTrainer_base,
    STUNetTrainer_base_ft,
    STUNetTrainer_ft,
    STUNetTrainer_huge,
    STUNetTrainer_huge_ft,
    STUNetTrainer_large,
    STUNetTrainer_large_ft,
    STUNetTrainer_small,
    STUNetTrainer_small_ft,
    STUNetTrainer_tiny,
    STUNetTrainer_tiny_ft,
)
