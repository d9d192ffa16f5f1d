"""The trainers' names where nnU-Net looks for them. `nnUNet_extTrainer` points to this folder."""

from stunet.training.trainers import (  # noqa: F401
    STUNetTrainer,
    STUNetTrainer_base,
    STUNetTrainer_base_ft,
    STUNetTrainer_base_warmup,
    STUNetTrainer_ft,
    STUNetTrainer_huge,
    STUNetTrainer_huge_ft,
    STUNetTrainer_huge_warmup,
    STUNetTrainer_large,
    STUNetTrainer_large_ft,
    STUNetTrainer_large_warmup,
    STUNetTrainer_small,
    STUNetTrainer_small_ft,
    STUNetTrainer_small_warmup,
    STUNetTrainer_tiny,
    STUNetTrainer_tiny_ft,
    STUNetTrainer_tiny_warmup,
    STUNetTrainer_warmup,
)
