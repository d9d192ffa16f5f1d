"""The trainers under the names of the official code. nnU-Net stores these names in checkpoints and folders."""

from stunet.networks.stunet import SIZES
from stunet.training.recipes import RECIPES
from stunet.training.trainer import STUNetTrainer


class STUNetTrainer_ft(STUNetTrainer):
    """Fine-tuning where the body learns at a tenth of the head's rate (section 3.4)."""

    recipe = RECIPES["finetune"]


class STUNetTrainer_warmup(STUNetTrainer):
    """Fine-tuning where the learning rate of the whole network rises to 0.001, then decays."""

    recipe = RECIPES["warmup"]


def _of_each_size(trainer: type[STUNetTrainer]) -> dict[str, type[STUNetTrainer]]:
    """Trainers that build one size with any plans, such as STUNetTrainer_small_ft from STUNetTrainer_ft."""
    names = {size: trainer.__name__.replace("STUNetTrainer", f"STUNetTrainer_{size}") for size in SIZES}
    return {
        size: type(name, (trainer,), {"size": size, "__module__": __name__, "__doc__": f"Builds {size!r}."})
        for size, name in names.items()
    }


TRAINERS = _of_each_size(STUNetTrainer)
"""From scratch and pre-training, by size."""

FINE_TUNERS = _of_each_size(STUNetTrainer_ft)
"""Fine-tuning as in the paper, by size."""

WARM_UP_TUNERS = _of_each_size(STUNetTrainer_warmup)
"""Fine-tuning with a warm-up, by size."""

STUNetTrainer_tiny, STUNetTrainer_small, STUNetTrainer_base, STUNetTrainer_large, STUNetTrainer_huge = TRAINERS.values()

(
    STUNetTrainer_tiny_ft,
    STUNetTrainer_small_ft,
    STUNetTrainer_base_ft,
    STUNetTrainer_large_ft,
    STUNetTrainer_huge_ft,
) = FINE_TUNERS.values()

(
    STUNetTrainer_tiny_warmup,
    STUNetTrainer_small_warmup,
    STUNetTrainer_base_warmup,
    STUNetTrainer_large_warmup,
    STUNetTrainer_huge_warmup,
) = WARM_UP_TUNERS.values()


def trainer_for(recipe: str, size: str) -> type[STUNetTrainer]:
    """The trainer under whose name nnU-Net stores the results of a recipe.

    Each STU-Net size has its own trainer. Other networks use the trainer that builds the network named in its plans.

    >>> trainer_for("warmup", "small").__name__, trainer_for("scratch", "unetr_b").__name__
    ('STUNetTrainer_small_warmup', 'STUNetTrainer')
    """
    if recipe == "finetune":
        return FINE_TUNERS.get(size, STUNetTrainer_ft)
    if recipe == "warmup":
        return WARM_UP_TUNERS.get(size, STUNetTrainer_warmup)
    return TRAINERS.get(size, STUNetTrainer)
