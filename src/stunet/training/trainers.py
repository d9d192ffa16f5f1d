"""The trainers by the names that the official code gave them: nnU-Net keeps them in checkpoints and folders."""

from stunet.networks.stunet import SIZES
from stunet.training.recipes import RECIPES
from stunet.training.trainer import STUNetTrainer


class STUNetTrainer_ft(STUNetTrainer):
    """Fine-tuning: the body learns at a tenth of the head's rate (section 3.4)."""

    recipe = RECIPES["finetune"]


def _of_each_size(trainer: type[STUNetTrainer]) -> dict[str, type[STUNetTrainer]]:
    """Trainers that build one size whatever the plans' network, such as STUNetTrainer_small_ft of STUNetTrainer_ft."""
    names = {size: trainer.__name__.replace("STUNetTrainer", f"STUNetTrainer_{size}") for size in SIZES}
    return {
        size: type(name, (trainer,), {"size": size, "__module__": __name__, "__doc__": f"Builds {size!r}."})
        for size, name in names.items()
    }


TRAINERS = _of_each_size(STUNetTrainer)
"""From scratch and pre-training, by size."""

FINE_TUNERS = _of_each_size(STUNetTrainer_ft)
"""Fine-tuning, by size."""

STUNetTrainer_tiny, STUNetTrainer_small, STUNetTrainer_base, STUNetTrainer_large, STUNetTrainer_huge = TRAINERS.values()

(
    STUNetTrainer_tiny_ft,
    STUNetTrainer_small_ft,
    STUNetTrainer_base_ft,
    STUNetTrainer_large_ft,
    STUNetTrainer_huge_ft,
) = FINE_TUNERS.values()
