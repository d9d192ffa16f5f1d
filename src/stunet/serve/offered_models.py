"""The models that users of a server may name, and what each finds."""

import logging
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.errors import UserError
from stunet.labels.ontology import STRUCTURES, colour_of
from stunet.serve.answers import ClassAnswer, ModelAnswer

if TYPE_CHECKING:
    from stunet.weights.model_card import ModelCard

logger = logging.getLogger(__name__)

_GROUPS: Mapping[str, str] = {one.name: one.anatomy for one in STRUCTURES}


def name_of(source: str) -> str:
    """The name of a model for users: its name in the catalogue, or the name of its file or folder.

    >>> name_of("base"), name_of("/data/models/spine.safetensors")
    ('base', 'spine')
    """
    return Path(source).name.split(".")[0] if "/" in source or "." in source else source


def model_path(source: str) -> Path | None:
    """The path of a model; None for a model of the catalogue that is not on this machine."""
    from stunet.weights.model_store import stored_models

    return next((model.path for model in stored_models() if model.entry.name == source), _existing(source))


def describe_models(sources: Sequence[str]) -> list[ModelAnswer]:
    """What each model is for and finds; weights are not read.

    Args:
        sources: names of the catalogue, model files or model folders; empty for all of the catalogue. One that cannot
            be read is not available.
    """
    from stunet.weights.catalogue import CATALOGUE

    return [_of_catalogue(name) if name in CATALOGUE else _of_file(name) for name in sources or CATALOGUE]


def class_answer(value: int, name: str) -> ClassAnswer:
    """A structure with its group and colour.

    >>> class_answer(3, "aorta")
    ClassAnswer(value=3, name='aorta', group='vessels', color='#f22c2d')
    """
    red, green, blue = colour_of(name, value)
    return ClassAnswer(value, name, _GROUPS.get(name, ""), f"#{red:02x}{green:02x}{blue:02x}")


def _existing(source: str) -> Path | None:
    path = Path(source)
    return path if path.exists() else None


def _of_catalogue(name: str) -> ModelAnswer:
    from stunet.weights.catalogue import CATALOGUE

    entry = CATALOGUE[name]
    if not entry.is_here:
        return ModelAnswer(name, entry.segments, entry.modality, False)
    card = _card(name)
    return ModelAnswer(name, entry.segments, entry.modality, True, _classes(card), list(card.channels))


def _of_file(source: str) -> ModelAnswer:
    try:
        card = _card(source)
    except UserError as error:
        logger.error("%s", error)
        return ModelAnswer(name_of(source), "cannot be read; the log says why", "", False)
    classes = _classes(card)
    summary = f"{len(classes)} structures"
    return ModelAnswer(name_of(source), summary, card.channels[0], True, classes, list(card.channels))


@cache
def _card(source: str) -> "ModelCard":
    """The card of a model; only of a file of ours can it be read without the weights."""
    from stunet.weights.model import load_model
    from stunet.weights.model_file import read_card

    path = model_path(source)
    if path is None:
        raise UserError(f"{source}: there is no model of that name.")
    return read_card(path) if path.suffix == ".safetensors" else load_model(source).card


def _classes(card: "ModelCard") -> list[ClassAnswer]:
    return [class_answer(value, name) for value, name in card.names.items() if value]
