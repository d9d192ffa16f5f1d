"""The paper's trainings, as numbers: from scratch, pre-training and fine-tuning (sections 3.4 and 4)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from stunet.errors import UserError

FLAT_LEARNING_RATE = 1e-3
"""Of all parameters, in the fine-tuning trainers of the official code (uni-medical/STU-Net)."""


@dataclass(frozen=True)
class Recipe:
    """How long, how fast and on what a network is trained; "section 4" is its paragraph on implementation details.

    Attributes:
        name: "scratch", "pretrain" or "finetune".
        epochs: how many; each learning rate is its first one times (1 - epoch / epochs) ** 0.9 (section 4).
        iterations_per_epoch: 250 (section 4, and nnU-Net).
        learning_rate: the first one, 0.01 (section 4; AutoPET alone was trained with 0.001).
        body_learning_rate_factor: all but the heads learns at this fraction of `learning_rate`; 0.1 in fine-tuning
            (section 3.4).
        freeze_encoder: the encoder does not learn at all: it stays as it is when the training starts.
        momentum: of SGD, Nesterov's; 0.99 (section 4).
        weight_decay: 1e-3 (section 4; nnU-Net's own is 3e-5).
        mirror: augment by mirrored copies (section 4; Table 8 shows that pre-training needs it).
        paper_transforms: additive brightness and elastic deformation, which section 4 names for all its trainings and
            nnU-Net's defaults leave out, as did the published code. The other four that it names (gamma, rotation,
            scaling, mirror) are among nnU-Net's defaults.
        batch_size: images in a batch; None takes the plan's (section 4: 2).
        patch: voxels (Z, Y, X) of an image in a batch; None takes the plan's, as section 4 does but for pre-training.
        spacing: mm (Z, Y, X) of the images that the recipe is meant for; None means any.
        classes: foreground classes of the dataset that the recipe is meant for; None means any.
    """

    name: str
    epochs: int = 1000
    iterations_per_epoch: int = 250
    learning_rate: float = 0.01
    body_learning_rate_factor: float = 1.0
    freeze_encoder: bool = False
    momentum: float = 0.99
    weight_decay: float = 1e-3
    mirror: bool = True
    paper_transforms: bool = True
    batch_size: int | None = None
    patch: tuple[int, int, int] | None = None
    spacing: tuple[float, float, float] | None = None
    classes: int | None = None

    def __post_init__(self) -> None:
        if min(self.epochs, self.iterations_per_epoch, self.batch_size or 1, *(self.patch or (1,))) < 1:
            raise UserError("Epochs, iterations, batch size and patch must be 1 or more.")
        if not (self.learning_rate > 0 and self.body_learning_rate_factor >= 0 and self.weight_decay >= 0):
            raise UserError(
                "The learning rate must be above 0, its factor for the body and the weight decay not below."
            )
        if not 0 < self.momentum < 1:
            raise UserError(f"The momentum lies between 0 and 1 (Nesterov's), not at {self.momentum}.")

    def with_changes(self, **changes: Any) -> "Recipe":
        """The recipe with those of `changes` that are not None.

        >>> RECIPES["scratch"].with_changes(epochs=40, mirror=None).epochs
        40
        """
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def at_one_rate(self) -> "Recipe":
        """Fine-tuning as the official code does it: body and heads at `FLAT_LEARNING_RATE`.

        Raises:
            UserError: the recipe is not for fine-tuning.
        """
        if self.name != "finetune":
            raise UserError("One flat learning rate is a way to fine-tune: give --from, or --recipe finetune.")
        return replace(self, learning_rate=FLAT_LEARNING_RATE, body_learning_rate_factor=1.0)

    @property
    def iterations(self) -> int:
        """Of the whole training."""
        return self.epochs * self.iterations_per_epoch

    def lines(self) -> list[str]:
        """The recipe for people: one line for each field.

        >>> RECIPES["finetune"].lines()[4]
        'body learning rate factor: 0.1'
        """
        return [f"{name.replace('_', ' ')}: {spoken(value)}" for name, value in asdict(self).items()]


RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("scratch"),
        Recipe(
            "pretrain", epochs=4000, batch_size=2, patch=(128, 128, 128), spacing=(1.5, 1.5, 1.5), classes=104
        ),  # section 3.4: 4000 epochs with mirroring; section 4: the patch; 104 classes of TotalSegmentator at 1.5 mm
        Recipe("finetune", body_learning_rate_factor=0.1),
    )
}


def find_recipe(name: str) -> Recipe:
    """One of `RECIPES`.

    Raises:
        UserError: another name.
    """
    if name not in RECIPES:
        raise UserError(f"There is no recipe {name!r}. Known are: {', '.join(RECIPES)}.")
    return RECIPES[name]


def departures(recipe: Recipe, spacing: Sequence[float], classes: int) -> list[str]:
    """What differs between the data at hand and the data that a recipe is meant for, a sentence each.

    Args:
        recipe: the recipe.
        spacing: mm (Z, Y, X) of the prepared images.
        classes: foreground classes of the dataset.
    """
    sentences = []
    if recipe.spacing is not None and any(abs(a - b) > 0.01 for a, b in zip(spacing, recipe.spacing, strict=True)):
        sentences.append(
            f"Recipe {recipe.name!r} is meant for images of {spoken(recipe.spacing)} mm; these are of "
            f"{spoken(tuple(round(float(mm), 3) for mm in spacing))} mm."
        )
    if recipe.classes is not None and classes != recipe.classes:
        sentences.append(f"Recipe {recipe.name!r} is meant for {recipe.classes} classes; this dataset has {classes}.")
    return sentences


def spoken(value: Any) -> str:
    """A setting's value for people.

    >>> spoken(True), spoken(None), spoken((128, 96, 96))
    ('on', 'of the plan', '128 x 96 x 96')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return " x ".join(str(number) for number in value)
    return "of the plan" if value is None else str(value)
