"""Weights to start a training with. They need not say all that prediction must know."""

from dataclasses import replace
from pathlib import Path

from stunet.errors import UserError
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.catalogue import CATALOGUE
from stunet.weights.import_model import import_to_start_with
from stunet.weights.model import CHECKPOINT_SUFFIXES, read_weights
from stunet.weights.model_file import ModelCard, StateDict


def read_pretrained(source: str | Path) -> tuple[StateDict, ModelCard]:
    """The weights of a model, memory-mapped where the format allows it, and its card.

    Args:
        source: a name in the catalogue (downloaded at first use), a `.safetensors` file of ours, a `.model` or `.pth`
            checkpoint of nnU-Net v1 or v2, or a model folder of v2; of several networks or folds the first is taken.

    Returns:
        The weights in our names, and the card. Its preprocessing is empty where a file does not say how its images
            were prepared; then its strides are unknown, too.

    Raises:
        UserError: nothing of that name, or a file that is damaged or of another kind.
    """
    path = Path(source)
    if str(source) not in CATALOGUE and path.is_file() and path.suffix in CHECKPOINT_SUFFIXES:
        return import_to_start_with(path)
    state_dicts, card = read_weights(source)
    _require_preprocessing(card, source)
    return state_dicts[0], replace(card, networks=1)


def _require_preprocessing(card: ModelCard, source: str | Path) -> None:
    try:
        plan = PreprocessingPlan.from_dict(card.preprocessing)
    except ValueError as error:
        raise UserError(f"{source} cannot be used: its card holds no valid preprocessing ({error}).") from error
    if len(plan.normalization) != card.architecture.input_channels:
        raise UserError(f"{source} cannot be used: it normalises other channels than its network takes.")
