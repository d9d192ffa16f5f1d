"""The card of a model: everything needed to use its weights, and how it is read from a `.safetensors` file.

The card is JSON in the header of the file (`stunet.weights.model_file`). This file does not use torch, so a card is
read in milliseconds.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any

from stunet.errors import FileError, UserError
from stunet.files import existing_file
from stunet.labels.ontology import BACKGROUND
from stunet.plans.labels import Region
from stunet.plans.network_spec import NetworkSpec
from stunet.plans.preprocessing import PreprocessingPlan

Shape = tuple[int, ...]

CARD_VERSION = 2
"""Increased when older programs could misread a card. Version 1 used other fields for the network; it is still read."""

METADATA_KEY = "stunet"
"""The key of the card in the safetensors metadata."""

MAX_HEADER_BYTES = 25_000_000
"""The limit of huggingface_hub; our headers are far smaller (`huge` needs 50 kB)."""

MAX_CLASSES = 2**15
"""Limited by int16, the type of labels during inference."""


@dataclass(frozen=True)
class ModelCard:
    """Everything needed to use the weights, and their origin.

    Attributes:
        name: name of the model, e.g. "base".
        network: the spec that builds the network.
        preprocessing: how images are prepared. If None, it is unknown, and the weights can only start a training.
        labels: names of the network's outputs; the index is the integer in the label map, [0] is "background". For a
            network with regions, the regions' names.
        regions: if structures overlap, one region for each of `labels`; otherwise ().
        channels: content of each input channel, e.g. ("CT",).
        mirror_axes: spatial axes (0, 1, 2 = Z, Y, X) along which images may be mirrored for test-time augmentation.
        training: how the weights were trained: trainer, epochs, machine.
        licence: licence of the weights.
        source: where the weights come from.
        metrics: results, with the cases on which they were measured.
        citation: the paper to cite.
        members: number of networks of this kind in the file; their logits are averaged.
    """

    name: str
    network: NetworkSpec
    preprocessing: PreprocessingPlan | None
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    mirror_axes: tuple[int, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    source: str = "unknown"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    citation: str = ""
    members: int = 1
    regions: tuple[Region, ...] = ()

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"a model has one network or more, not {self.members}")
        if len(self.labels) != self.network.num_classes:
            raise ValueError(f"there are {len(self.labels)} labels for {self.network.num_classes} classes")
        if self.regions and len(self.regions) != len(self.labels):
            raise ValueError(f"there are {len(self.labels)} labels for {len(self.regions)} regions")
        if len(self.channels) != self.network.input_channels:
            raise ValueError(f"there are {len(self.channels)} channels for {self.network.input_channels} inputs")
        if len(self.labels) > MAX_CLASSES:
            raise ValueError(f"a label map can have at most {MAX_CLASSES:,} classes, not {len(self.labels):,}")
        if not set(self.mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"mirror axes are among 0, 1 and 2, not {self.mirror_axes}")

    @property
    def names(self) -> dict[int, str]:
        """Label to structure; 0 is background."""
        if not self.regions:
            return dict(enumerate(self.labels))
        named = {region.label: name for region, name in zip(self.regions, self.labels, strict=True)}
        return {0: BACKGROUND, **dict(sorted(named.items()))}

    def to_dict(self) -> dict[str, Any]:
        """The card as a JSON object."""
        return {"card_version": CARD_VERSION, **asdict(self)}

    @property
    def sha256(self) -> str:
        """A hash of the card, which identifies the model in results."""
        return sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @staticmethod
    def from_dict(card: Mapping[str, Any]) -> "ModelCard":
        """Read a card that `to_dict` wrote, of this version or version 1. Unknown fields are ignored.

        Raises:
            ValueError: the version is unknown, or a field is missing or has the wrong type.
        """
        if card.get("card_version") not in (1, CARD_VERSION):
            raise ValueError(
                f"its card has version {card.get('card_version')}, but this stunet reads versions 1 to {CARD_VERSION}; "
                "update stunet"
            )
        try:
            card = _of_version_1(card) if card["card_version"] == 1 else card
            known = {f.name: card[f.name] for f in fields(ModelCard) if f.name in card}
            return ModelCard(**{**known, **_typed_fields(card)})
        except (KeyError, TypeError, AttributeError, OverflowError) as error:
            raise ValueError(f"its card is incomplete or damaged ({error})") from error


def _typed_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    """Convert and check the fields of a card that have no JSON type or whose type matters."""
    plan = card["preprocessing"]
    try:
        preprocessing = None if plan is None else PreprocessingPlan.from_dict(plan)
    except ValueError as error:
        raise ValueError(f"its card has no valid preprocessing ({error})") from error
    return {
        "network": NetworkSpec.from_dict(card["network"]),
        "preprocessing": preprocessing,
        "members": int(card.get("members", 1)),
        "regions": tuple(
            Region(int(region["label"]), tuple(int(member) for member in region["members"]))
            for region in card.get("regions", ())
        ),
        "labels": tuple(str(label) for label in card["labels"]),
        "channels": tuple(str(channel) for channel in card["channels"]),
        "mirror_axes": tuple(int(axis) for axis in card["mirror_axes"]),
        "training": dict(card.get("training", {})),
        "metrics": dict(card.get("metrics", {})),
    }


def _of_version_1(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """Convert a card of version 1, which listed the arguments of an STU-Net next to its name, to version 2."""
    own = dict(card["architecture"])
    network = {"kind": own.pop("network"), **{name: own.pop(name) for name in ("input_channels", "num_classes")}}
    arguments = own if network["kind"] == "stunet" else own.get("arguments", {})
    if network["kind"] == "stunet" and not {"width", "depth", "strides"} <= set(own):
        raise KeyError("width, depth or strides")
    return {
        **card,
        "network": {**network, "arguments": arguments},
        "preprocessing": card["preprocessing"] or None,
        "members": card.get("networks", 1),
    }


def stunet_on(card: ModelCard) -> NetworkSpec:
    """The card's network, which must be an STU-Net.

    Raises:
        UserError: it is another kind of network.
    """
    if card.network.kind != "stunet":
        raise UserError(f"{card.name!r} is a {card.network.kind}, but this is only possible for STU-Nets.")
    return card.network


def read_header(path: str | Path) -> tuple[ModelCard, dict[str, Shape]]:
    """Read the card of a model file, and the shape of each tensor. They may contradict each other.

    Raises:
        UserError: the file does not exist, is of another kind, damaged or truncated, or its card has an unknown
            version.
    """
    path = existing_file(path)
    metadata, shapes = _read_header(path)
    return _card_in(metadata, path), shapes


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Shape]]:
    """Read metadata and tensor shapes. The header's length is checked against the file's size before it is read."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise FileError(f"{path} is not a .safetensors file, or it is truncated: its header does not fit into it.")
        text = file.read(length)
    try:
        tensors = json.loads(text)
        metadata = dict(tensors.pop("__metadata__", {}))
        shapes = {key: tuple(int(n) for n in entry["shape"]) for key, entry in tensors.items()}
        end = max(int(entry["data_offsets"][1]) for entry in tensors.values())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError) as error:
        raise FileError(f"{path} is not a .safetensors file: its header cannot be read.") from error
    if 8 + length + end != size:
        raise FileError(f"{path} has {size:,} bytes instead of {8 + length + end:,}; copy or download it again.")
    return metadata, shapes


def _card_in(metadata: Mapping[str, str], path: Path) -> ModelCard:
    if METADATA_KEY not in metadata:
        raise FileError(
            f"{path} contains tensors but no stunet card that describes how to use them; "
            "make a model file with `stunet weights import`."
        )
    try:
        return ModelCard.from_dict(json.loads(metadata[METADATA_KEY]))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} cannot be used: {error}.") from error
