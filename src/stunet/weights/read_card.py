"""What a model says of itself, and which file holds it. A card is read without torch where the file is one of ours."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.errors import FileError
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.catalogue import CATALOGUE
from stunet.weights.model_card import ModelCard, read_header
from stunet.weights.model_store import get_model

if TYPE_CHECKING:
    from stunet.weights.folds import Fold


def read_card(source: str | Path, folds: "Sequence[Fold] | None" = None) -> ModelCard:
    """What a model says of itself. No network is built, and the weights of a `.safetensors` file are not read.

    Whether the weights fit the card is checked when the model is loaded.

    Args:
        source: as `stunet.weights.model.load_model` takes it.
        folds: as `load_model` takes them.

    Raises:
        UserError: as `load_model`.
    """
    path = model_file_of(source) if folds is None else None
    card = read_header(path)[0] if path else _card_with_weights(source, folds)
    require_possible_plan(card, str(source))
    return card


def _card_with_weights(source: str | Path, folds: "Sequence[Fold] | None") -> ModelCard:
    from stunet.weights.model import read_weights  # brings torch, which only checkpoints need

    return read_weights(source, folds)[1]


def model_file_of(source: str | Path) -> Path | None:
    """The `.safetensors` file of a source, downloaded if it is a name in the catalogue; None for other sources."""
    if isinstance(source, str) and source in CATALOGUE:
        return get_model(source)
    path = Path(source)
    return path if path.suffix == ".safetensors" and path.is_file() else None


def known_plan(card: ModelCard, source: str) -> PreprocessingPlan:
    """How images are prepared.

    Raises:
        UserError: the card does not say.
    """
    if card.preprocessing is None:
        raise FileError(f"{source} cannot be used: its card does not contain the preprocessing of images.")
    return card.preprocessing


def require_possible_plan(card: ModelCard, source: str) -> None:
    """Refuse a plan that the network or stunet cannot follow.

    Raises:
        UserError: it cannot be followed.
    """
    plan = known_plan(card, source)
    if len(plan.normalization) != card.network.input_channels:
        raise FileError(
            f"{source} cannot be used: it normalises {len(plan.normalization)} channel(s), but its network takes "
            f"{card.network.input_channels}."
        )
    if not {plan.logits_order, plan.logits_order_z} <= {0, 1}:
        raise FileError(
            f"{source} cannot be used: its plan interpolates the network's output with order {plan.logits_order}, but "
            "stunet only supports linear (1) and nearest (0) interpolation."
        )
