"""The paper's hyperparameters for training from scratch, pre-training and fine-tuning (sections 3.4 and 4).

Section 4.1 trains the systems it compares with inside nnU-Net, for as many epochs, each with the optimiser, learning
rate and schedule of its own paper.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from stunet.errors import UnknownNameError, UserError
from stunet.networks.registry import find_network
from stunet.training.settings import TrainingSettings

FLAT_LEARNING_RATE = 1e-3
"""Learning rate of all parameters in the fine-tuning trainers of the official code (uni-medical/STU-Net)."""

OptimizerName = Literal["sgd", "adamw"]
ScheduleName = Literal["polynomial", "cosine"]

NNUNET_WEIGHT_DECAY = 3e-5
"""nnU-Net's default (Isensee et al., 2021), also used by nnFormer, which was trained inside nnU-Net."""


@dataclass(frozen=True)
class Recipe:
    """Hyperparameters of a training. "Section 4" means its paragraph on implementation details.

    Attributes:
        name: "scratch", "pretrain" or "finetune", or the kind of network that it is for.
        epochs: number of epochs; the learning rates decay over them, see `schedule`.
        iterations_per_epoch: 250 (section 4, and nnU-Net).
        learning_rate: the initial one, 0.01 (section 4; only AutoPET was trained with 0.001).
        body_learning_rate_factor: everything but the heads learns at this fraction of `learning_rate`; 0.1 in
            fine-tuning (section 3.4).
        freeze_encoder: do not train the encoder; it keeps its initial weights.
        optimizer: "sgd", with Nesterov momentum (section 4), or "adamw".
        schedule: "polynomial", where each learning rate is its initial one times (1 - epoch / epochs) ** 0.9
            (section 4); or "cosine", half a wave down to 0.
        warm_up: fraction of the epochs in which the learning rates rise in equal steps, before the decay.
        momentum: of SGD; 0.99 (section 4). AdamW uses torch's default betas.
        weight_decay: 1e-3 (section 4; nnU-Net's default is 3e-5).
        mirror: augment by mirroring (section 4; Table 8 shows that pre-training needs it).
        paper_transforms: additive brightness and elastic deformation, which section 4 names for all its trainings, but
            nnU-Net's defaults and the published code leave out. The other four that it names (gamma, rotation,
            scaling, mirror) are among nnU-Net's defaults.
        batch_size: images per batch; None uses the plan's (section 4: 2).
        patch: voxels (Z, Y, X) of an image in a batch; None uses the plan's, as section 4 does except for pre-training.
        spacing: mm (Z, Y, X) of the images that the recipe is meant for; None means any.
        classes: foreground classes of the dataset that the recipe is meant for; None means any.
        foreground: fraction of a batch's samples that are centred on foreground; nnU-Net's default is 0.33.
        class_weights: of the classes in the cross-entropy, background first; None weights all equally.
        patience: stop after this many epochs without a better moving average of the pseudo-Dice; None: never.
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
    foreground: float = 0.33
    class_weights: tuple[float, ...] | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        """Raise UserError for invalid values."""
        counts = (self.epochs, self.iterations_per_epoch, self.batch_size, self.patience, *(self.patch or ()))
        weights = (1.0,) if self.class_weights is None else self.class_weights
        rules = (
            (
                all(count is None or count >= 1 for count in counts),
                "Epochs, iterations, batch size, patch and --patience must be 1 or more.",
            ),
            (
                self.learning_rate > 0 and self.body_learning_rate_factor >= 0 and self.weight_decay >= 0,
                "The learning rate must be above 0; its factor for the body and the weight decay 0 or more.",
            ),
            (0 <= self.warm_up < 1, f"The warm-up must be a fraction from 0 to below 1, not {self.warm_up}."),
            (0 < self.momentum < 1, f"The momentum must be between 0 and 1 (Nesterov), not {self.momentum}."),
            (0 <= self.foreground <= 1, f"--foreground must be a fraction from 0 to 1, not {self.foreground}."),
            (
                min(weights, default=0) >= 0 < sum(weights),
                "--class-weights must be 0 or more, and not all of them 0.",
            ),
        )
        for holds, sentence in rules:
            if not holds:
                raise UserError(sentence)

    def with_changes(self, **changes: Any) -> "Recipe":
        """The recipe with all `changes` that are not None.

        >>> RECIPES["scratch"].with_changes(epochs=40, mirror=None).epochs
        40
        """
        return replace(self, **{name: value for name, value in changes.items() if value is not None})

    def at_one_rate(self) -> "Recipe":
        """Fine-tuning as in the official code: body and heads at `FLAT_LEARNING_RATE`.

        Raises:
            UserError: the recipe is not for fine-tuning.
        """
        if self.name != "finetune":
            raise UserError("One flat learning rate is a way to fine-tune: give --from, or --recipe finetune.")
        return replace(self, learning_rate=FLAT_LEARNING_RATE, body_learning_rate_factor=1.0)

    @property
    def iterations(self) -> int:
        """Number of iterations of the whole training."""
        return self.epochs * self.iterations_per_epoch

    def lines(self) -> list[str]:
        """The recipe in readable form, one line per field.

        >>> RECIPES["finetune"].lines()[4]
        'body learning rate factor: 0.1'
        """
        values = {name: spoken(UNSET.get(name) if value is None else value) for name, value in asdict(self).items()}
        return [f"{name.replace('_', ' ')}: {value}" for name, value in values.items()]


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
        Recipe("warmup", learning_rate=FLAT_LEARNING_RATE, warm_up=0.05),
        Recipe("nnunet", weight_decay=NNUNET_WEIGHT_DECAY),
        Recipe("unet3d", weight_decay=NNUNET_WEIGHT_DECAY),  # its paper states no values: nnU-Net's
        Recipe("nnformer", weight_decay=NNUNET_WEIGHT_DECAY),  # Zhou et al., 2021, section 4: nnU-Net's
        UNETR,
        replace(UNETR, name="swin_unetr", learning_rate=8e-4),  # Hatamizadeh et al., 2021; AdamW is the official code's
    )
}
"""By name."""


def find_recipe(name: str) -> Recipe:
    """Look up a recipe in `RECIPES`.

    Raises:
        UserError: an unknown name.
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
    """The recipe of a training: the one it names, or the default for its start and network, with its own numbers.

    Raises:
        UserError: an unknown recipe or network, or invalid numbers.
    """
    schedule = settings.schedule
    name = schedule.recipe or ("finetune" if settings.start.model else recipe_of(settings.task.size or "small").name)
    recipe = find_recipe(name)
    if schedule.flat_lr:
        recipe = recipe.at_one_rate()
    options = {**vars(schedule), **vars(settings.augmentation), "freeze_encoder": schedule.freeze == "encoder"}
    return recipe.with_changes(**{name: value for name, value in options.items() if name in vars(recipe)})


def departures(recipe: Recipe, spacing: Sequence[float], classes: int) -> list[str]:
    """One sentence for each difference between this data and the data that a recipe is meant for.

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


UNSET = {"class_weights": "1 each", "patience": "no limit"}
"""What None means for these fields. For all others it means the plan's value."""


def spoken(value: Any) -> str:
    """A setting's value in readable form.

    >>> spoken(True), spoken(None), spoken((128, 96, 96))
    ('on', 'of the plan', '128 x 96 x 96')
    """
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple | list):
        return " x ".join(str(number) for number in value)
    return "of the plan" if value is None else str(value)
