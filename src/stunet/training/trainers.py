"""The trainers by the names that the official code gave them: nnU-Net keeps them in checkpoints and folders."""

from stunet.training.recipes import RECIPES
from stunet.training.trainer import STUNetTrainer


class STUNetTrainer_ft(STUNetTrainer):
    """Fine-tuning: the body learns at a tenth of the head's rate (section 3.4)."""

    recipe = RECIPES["finetune"]


class STUNetTrainer_tiny(STUNetTrainer):
    """Builds `tiny`."""

    size = "tiny"


class STUNetTrainer_small(STUNetTrainer):
    """Builds STU-Net-S."""

    size = "small"


class STUNetTrainer_base(STUNetTrainer):
    """Builds STU-Net-B."""

    size = "base"


class STUNetTrainer_large(STUNetTrainer):
    """Builds STU-Net-L."""

    size = "large"


class STUNetTrainer_huge(STUNetTrainer):
    """Builds STU-Net-H."""

    size = "huge"


class STUNetTrainer_tiny_ft(STUNetTrainer_ft):
    """Fine-tunes `tiny`."""

    size = "tiny"


class STUNetTrainer_small_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-S."""

    size = "small"


class STUNetTrainer_base_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-B."""

    size = "base"


class STUNetTrainer_large_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-L."""

    size = "large"


class STUNetTrainer_huge_ft(STUNetTrainer_ft):
    """Fine-tunes STU-Net-H."""

    size = "huge"


TRAINERS: dict[str, type[STUNetTrainer]] = {
    "tiny": STUNetTrainer_tiny,
    "small": STUNetTrainer_small,
    "base": STUNetTrainer_base,
    "large": STUNetTrainer_large,
    "huge": STUNetTrainer_huge,
}
"""From scratch and pre-training, by size."""

FINE_TUNERS: dict[str, type[STUNetTrainer]] = {
    "tiny": STUNetTrainer_tiny_ft,
    "small": STUNetTrainer_small_ft,
    "base": STUNetTrainer_base_ft,
    "large": STUNetTrainer_large_ft,
    "huge": STUNetTrainer_huge_ft,
}
