"""Read and write models as single `.safetensors` files: the weights, and in the header a card on how to use them.

A safetensors file consists of eight bytes (the header's length, little-endian), a JSON header with every tensor's
shape, and the tensors' bytes; it contains no code. The card is JSON in the header's metadata under the key "stunet", so
it can be read without the weights. The weights are memory-mapped, so they take memory only when used.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stunet.errors import FileError, OutputError, UserError
from stunet.files import existing_file, printable, replacing
from stunet.labels.ontology import BACKGROUND
from stunet.memory import explaining_full_main_memory
from stunet.networks.network import Network, without_weights
from stunet.networks.registry import build
from stunet.plans.labels import Region
from stunet.plans.network_spec import NetworkSpec
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.finite import require_finite

StateDict = dict[str, torch.Tensor]
"""Tensors by their names in `stunet.networks`."""

Shape = tuple[int, ...]

Item = TypeVar("Item")

CARD_VERSION = 2
"""Increased when older programs could misread a card. Version 1 used other fields for the network; it is still read."""

METADATA_KEY = "stunet"
"""The key of the card in the safetensors metadata."""

MAX_HEADER_BYTES = 25_000_000
"""The limit of huggingface_hub; our headers are far smaller (`huge` needs 50 kB)."""

MAX_CLASSES = 2**15
"""Limited by int16, the type of labels during inference."""

SHOWN_MISMATCHES = 12
"""The number of wrong shapes that a message lists; the others are counted."""

READABLE_BY_ALL = 0o644
"""Permissions of a model file. safetensors writes files that only their owner can read, but models are shared."""


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


# Several networks in one file


def joined(networks: Sequence[Mapping[str, Item]]) -> dict[str, Item]:
    """Join the tensors (or other values by name) of several networks under the names used in one file.

    >>> joined([{"head.bias": 1}]), joined([{"head.bias": 1}, {"head.bias": 2}])
    ({'head.bias': 1}, {'0.head.bias': 1, '1.head.bias': 2})
    """
    if len(networks) == 1:
        return dict(networks[0])
    return {f"{number}.{name}": item for number, network in enumerate(networks) for name, item in network.items()}


def separated(state_dict: Mapping[str, torch.Tensor], members: int) -> tuple[StateDict, ...]:
    """The inverse of `joined`: the tensors of each network."""
    if members == 1:
        return (dict(state_dict),)
    found: tuple[StateDict, ...] = tuple({} for _ in range(members))
    for key, tensor in state_dict.items():
        number, _, name = key.partition(".")
        found[int(number)][name] = tensor
    return found


# Writing


def save_model(
    path: str | Path, state_dict: Mapping[str, torch.Tensor], card: ModelCard, dtype: Literal["float16"] | None = None
) -> None:
    """Write weights and card to one file, under a temporary name first, so that no incomplete model is ever visible.

    Memory-mapped tensors are written straight from their file, so only the page cache grows.

    Args:
        path: the output, ending in ".safetensors"; its folder is created.
        state_dict: all tensors of the card's network, by our names; for several networks, the result of `joined`.
        card: the card for the header.
        dtype: "float16" halves the file (`build_network_from` converts back to float32); None keeps each tensor's type.

    Raises:
        ValueError: the tensors do not fit the card's network, or `dtype` is invalid.
        UserError: the disk is full, or the folder is not writable.
    """
    table = mismatches(_shapes_on(card), shapes_of(state_dict))
    if table:
        raise ValueError(f"these weights do not fit the card's network:\n{table}")
    if dtype not in (None, "float16"):
        raise ValueError(f"dtype is 'float16' or None, not {dtype!r}")
    tensors = {key: _stored(tensor, dtype) for key, tensor in state_dict.items()}
    metadata = {METADATA_KEY: printable(json.dumps(card.to_dict(), ensure_ascii=False, allow_nan=False))}
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary:
            save_file(tensors, temporary, metadata)
            temporary.chmod(READABLE_BY_ALL)
    except (OSError, SafetensorError) as error:
        raise OutputError(f"{path}: cannot be written ({error}).") from error


def _stored(tensor: torch.Tensor, dtype: str | None) -> torch.Tensor:
    tensor = tensor.detach().cpu().contiguous()
    return tensor.to(torch.float16) if dtype == "float16" and tensor.is_floating_point() else tensor


# Reading


def read_card(path: str | Path) -> ModelCard:
    """Read the card of a model file, without its weights.

    Raises:
        UserError: the file does not exist, is of another kind, damaged or truncated, its card has an unknown version,
            or its tensors do not have the shapes of the card's network.
    """
    path = existing_file(path)
    metadata, shapes = _read_header(path)
    card = _card_in(metadata, path)
    _require_fit(card, shapes, path)
    return card


def read_model(path: str | Path) -> tuple[StateDict, ModelCard]:
    """Read weights and card. The weights are memory-mapped and read once, to check that they are finite.

    Returns:
        The tensors by our names in the file's type (float32 or float16), and the card. `separated` returns those of
            each network.

    Raises:
        UserError: as `read_card`, weights are NaN or infinite, or there is not enough memory.
    """
    card = read_card(path)
    try:
        with explaining_full_main_memory(str(path)):
            weights = load_file(path)
    except (SafetensorError, RuntimeError, OSError) as error:
        raise FileError(f"{path} is damaged ({error}); copy or download it again.") from error
    require_finite(weights, Path(path))
    return weights, card


def build_network_from(card: ModelCard, state_dict: Mapping[str, torch.Tensor]) -> Network:
    """Build the card's network with these weights, in evaluation mode and float32.

    The network is created on the meta device and takes over the tensors, so the weights are in memory only once.

    Raises:
        UserError: the weights do not fit the card's network.
    """
    with without_weights():
        network = build(card.network)
    table = mismatches(shapes_of(network.state_dict()), shapes_of(state_dict))
    if table:
        raise UserError(f"The weights of model {card.name!r} do not fit its network:\n{table}")
    own = network.state_dict()
    network.load_state_dict({key: tensor.to(own[key].dtype) for key, tensor in state_dict.items()}, assign=True)
    return network.eval()


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


def _require_fit(card: ModelCard, shapes: Mapping[str, Shape], path: Path) -> None:
    for claimed, what in ((card.network.least_tensors, "layers"), (card.members, "networks")):
        if claimed > len(shapes):
            raise FileError(f"{path}: its card claims {claimed} {what}, but it contains {len(shapes)} tensors.")
    try:
        table = mismatches(_shapes_on(card), shapes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise FileError(f"{path} cannot be used: {str(error).splitlines()[0]}.") from error
    if table:
        raise FileError(f"{path}: its tensors are not those of the network on its card:\n{table}")


# Shapes


def network_shapes(spec: NetworkSpec) -> dict[str, Shape]:
    """The shape of every tensor of a network, without allocating it.

    Raises:
        UserError, ValueError: as `stunet.networks.registry.build`.
    """
    with without_weights():
        return shapes_of(build(spec).state_dict())


def _shapes_on(card: ModelCard) -> dict[str, Shape]:
    """The shape of every tensor in the file. With several networks, names start with the network's number."""
    return joined([network_shapes(card.network)] * card.members)


def shapes_of(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Shape]:
    """The shape of every tensor."""
    return {key: tuple(tensor.shape) for key, tensor in state_dict.items()}


def mismatches(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> str:
    """A table of the tensors that differ, are missing or are unexpected; "" if all fit.

    >>> print(mismatches({"a": (2, 3), "b": (4,)}, {"a": (2, 5), "b": (4,)}))
    tensor  expected  found
    a       2 x 3     2 x 5
    """
    wrong = [(key, expected[key], found[key]) for key in expected if key in found and expected[key] != found[key]]
    missing = [(key, shape, None) for key, shape in expected.items() if key not in found]
    foreign = [(key, None, shape) for key, shape in found.items() if key not in expected]
    rows = [
        (key, _shown(left, "nothing"), _shown(right, "missing"))
        for key, left, right in cast(Sequence[tuple[str, Shape | None, Shape | None]], wrong + foreign + missing)
    ]
    return _table(("tensor", "expected", "found"), rows) if rows else ""


def _shown(shape: Shape | None, absent: str) -> str:
    return absent if shape is None else " x ".join(map(str, shape)) or "a single number"


def _table(title: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    shown = [title, *rows[:SHOWN_MISMATCHES]]
    widths = [max(len(row[column]) for row in shown) for column in range(len(title))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in shown]
    if len(rows) > SHOWN_MISMATCHES:
        lines.append(f"... and {len(rows) - SHOWN_MISMATCHES} more")
    return "\n".join(lines)
