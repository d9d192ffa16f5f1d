"""The paper's trainings, as numbers: from scratch, pre-training and fine-tuning (sections 3.4 and 4).

Section 4.1 trains the systems that it compares with for as many epochs within nnU-Net, each with the optimiser, the
learning rate and its decay that its own paper reports.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from stunet.errors import UnknownNameError, UserError
from stunet.networks.registry import find_network
from stunet.training.settings import TrainingSettings

FLAT_LEARNING_RATE = 1e-3
"""Of all parameters, in the fine-tuning trainers of the official code (uni-medical/STU-Net)."""

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["polynomial", "cosine"]

NNUNET_WEIGHT_DECAY = 3e-5
"""nnU-Net's own (Isensee et al., 2021), and nnFormer's, which was trained within it."""


@dataclass(frozen=True)
class Recipe:
    """How long, how fast and on what a network is trained; "section 4" is its paragraph on implementation details.

    Attributes:
        name: "scratch", "pretrain" or "finetune", or the kind of network that it is for.
        epochs: how many; the learning rates decay over them, see `schedule`.
        iterations_per_epoch: 250 (section 4, and nnU-Net).
        learning_rate: the first one, 0.01 (section 4; AutoPET alone was trained with 0.001).
        body_learning_rate_factor: all but the heads learns at this fraction of `learning_rate`; 0.1 in fine-tuning
            (section 3.4).
        freeze_encoder: the encoder does not learn at all: it stays as it is when the training starts.
        optimizer: "sgd", with Nesterov's momentum (section 4), or "adamw".
        schedule: "polynomial", each learning rate is its first one times (1 - epoch / epochs) ** 0.9 (section 4); or
            "cosine", half a wave down to 0.
        warm_up: part of the epochs in which the learning rates rise in equal steps; the decay comes after it.
        momentum: of SGD; 0.99 (section 4). AdamW has torch's own betas.
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
    optimizer: OptimizerName = "sgd"
    schedule: ScheduleName = "polynomial"
    warm_up: float = 0.0
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
        if not 0 <= self.warm_up < 1:
            raise UserError(f"The warm-up is a part of the epochs, from 0 to below 1, not {self.warm_up}.")
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


UNETR = Recipe(
    "unetr",
    learning_rate=1e-4,
    optimizer="adamw",
    schedule="cosine",
    warm_up=0.05,  # 50 epochs in the official code, here of 1000
    weight_decay=1e-5,  # in the official code; the papers of UNETR and Swin UNETR state none
)
"""Hatamizadeh et al., 2022: AdamW, 0.0001; warm-up and cosine are the official code's."""

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("scratch"),
        Recipe(
            "pretrain", epochs=4000, batch_size=2, patch=(128, 128, 128), spacing=(1.5, 1.5, 1.5), classes=104
        ),  # section 3.4: 4000 epochs with mirroring; section 4: the patch; 104 classes of TotalSegmentator at 1.5 mm
        Recipe("finetune", body_learning_rate_factor=0.1),
        Recipe("nnunet", weight_decay=NNUNET_WEIGHT_DECAY),
        Recipe("unet3d", weight_decay=NNUNET_WEIGHT_DECAY),  # its paper states no numbers: nnU-Net's
        Recipe("nnformer", weight_decay=NNUNET_WEIGHT_DECAY),  # Zhou et al., 2021, section 4: nnU-Net's
        UNETR,
        replace(UNETR, name="swin_unetr", learning_rate=8e-4),  # Hatamizadeh et al., 2021; AdamW is the official code's
    )
}
"""By name."""


def find_recipe(name: str) -> Recipe:
    """One of `RECIPES`.

    Raises:
        UserError: another name.
    """
    if name not in RECIPES:
        raise UnknownNameError.of("recipe", name, RECIPES)
    return RECIPES[name]


def recipe_of(network: str) -> Recipe:
    """The recipe for training a network from scratch.

    Args:
        network: a name in `stunet.networks.registry.NETWORKS`.

    Raises:
        UserError: an unknown name.

    >>> recipe_of("small").name, recipe_of("unetr_b").optimizer
    ('scratch', 'adamw')
    """
    kind = find_network(network).kind
    return RECIPES["scratch" if kind == "stunet" else kind]


def recipe_for(settings: TrainingSettings) -> Recipe:
    """The recipe that a training follows: the one it names, or that of its start and its network, with its own numbers.

    Raises:
        UserError: an unknown recipe or network, or numbers with which nothing can be trained.
    """
    schedule = settings.schedule
    name = schedule.recipe or ("finetune" if settings.start.model else recipe_of(settings.task.size or "small").name)
    recipe = find_recipe(name)
    if schedule.flat_lr:
        recipe = recipe.at_one_rate()
    options = {**vars(schedule), **vars(settings.augmentation), "freeze_encoder": schedule.freeze == "encoder"}
    return recipe.with_changes(**{name: value for name, value in options.items() if name in vars(recipe)})


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
