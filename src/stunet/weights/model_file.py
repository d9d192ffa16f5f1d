"""One `.safetensors` file is a whole model: weights, and in its header the card that says how to use them.

A safetensors file is eight bytes (the header's length, little-endian), a JSON header with every tensor's shape, and
the tensors' bytes; nothing in it can run. The card is JSON in the header's metadata under the key "stunet", so it is
read without touching the weights, and the weights are memory-mapped, so `huge` opens at once.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stunet.errors import FileError, OutputError, UserError
from stunet.files import existing_file, replacing
from stunet.labels.ontology import BACKGROUND
from stunet.networks.network import Network, without_weights
from stunet.networks.registry import build
from stunet.plans.labels import Region
from stunet.plans.network_spec import NetworkSpec
from stunet.plans.preprocessing import PreprocessingPlan

StateDict = dict[str, torch.Tensor]
"""Tensors by name, in the names of `stunet.networks`."""

Shape = tuple[int, ...]

Item = TypeVar("Item")

CARD_VERSION = 2
"""Rises when older programs could misread a card. Version 1 wrote the network in other words; it is still read."""

METADATA_KEY = "stunet"
"""Where the card lies in the safetensors metadata."""

MAX_HEADER_BYTES = 25_000_000
"""No header of ours nears this (`huge` needs 50 kB); the same bound that huggingface_hub sets."""

MAX_CLASSES = 2**15
"""Labels are int16 while they are found."""

SHOWN_MISMATCHES = 12
"""Rows of the table that reports wrong shapes; the rest are counted."""

READABLE_BY_ALL = 0o644
"""Mode of a model file; safetensors writes files that their owner alone can read, and models are shared."""


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to use the weights, and to know where they come from.

    Attributes:
        name: how the model calls itself, e.g. "base".
        network: what builds it.
        preprocessing: how images are prepared; None if unknown: such weights can only start a training.
        labels: names of the network's outputs; the index is the integer in the label map, [0] is "background". Of a
            network for regions, the regions' names.
        regions: where structures overlap, one for each of `labels`; else ().
        channels: what each input channel shows, e.g. ("CT",).
        mirror_axes: spatial axes (0, 1, 2 = Z, Y, X) with which mirrored copies may be averaged.
        training: how the weights came to be: trainer, epochs, machine.
        licence: of the weights.
        source: where they come from.
        metrics: results, with the cases that they were measured on.
        citation: the paper to cite.
        members: how many networks of this kind the file holds; their logits are averaged.
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
            raise ValueError(f"{len(self.labels)} labels are named for {self.network.num_classes} classes")
        if self.regions and len(self.regions) != len(self.labels):
            raise ValueError(f"{len(self.labels)} labels are named for {len(self.regions)} regions")
        if len(self.channels) != self.network.input_channels:
            raise ValueError(f"{len(self.channels)} channels are named for {self.network.input_channels} inputs")
        if len(self.labels) > MAX_CLASSES:
            raise ValueError(f"a label map holds {MAX_CLASSES:,} classes at most, not {len(self.labels):,}")
        if not set(self.mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"mirror axes are among 0, 1 and 2, not {self.mirror_axes}")

    @property
    def names(self) -> dict[int, str]:
        """Integer in the label map to structure; 0 is background."""
        if not self.regions:
            return dict(enumerate(self.labels))
        named = {region.label: name for region, name in zip(self.regions, self.labels, strict=True)}
        return {0: BACKGROUND, **dict(sorted(named.items()))}

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON holds it."""
        return {"card_version": CARD_VERSION, **asdict(self)}

    @staticmethod
    def from_dict(card: Mapping[str, Any]) -> "ModelCard":
        """The card that `to_dict` wrote, of this version or of version 1; fields that it does not know are left out.

        Raises:
            ValueError: another card version, or a field that is missing or of a wrong type.
        """
        if card.get("card_version") not in (1, CARD_VERSION):
            raise ValueError(
                f"its card has version {card.get('card_version')}, and this stunet reads versions 1 to {CARD_VERSION}; "
                "update stunet"
            )
        try:
            card = _of_version_1(card) if card["card_version"] == 1 else card
            known = {f.name: card[f.name] for f in fields(ModelCard) if f.name in card}
            return ModelCard(**{**known, **_typed_fields(card)})
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its card is incomplete or damaged ({error})") from error


def _typed_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card that JSON cannot hold in their own type, and those whose type matters to others."""
    plan = card["preprocessing"]
    try:
        preprocessing = None if plan is None else PreprocessingPlan.from_dict(plan)
    except ValueError as error:
        raise ValueError(f"its card holds no valid preprocessing ({error})") from error
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
    """A card of version 1 in the words of version 2. The arguments of an STU-Net stood beside its name then."""
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
        UserError: it is another network.
    """
    if card.network.kind != "stunet":
        raise UserError(f"{card.name!r} is a {card.network.kind}, and this is for STU-Nets only.")
    return card.network


# Several networks in one file


def joined(networks: Sequence[Mapping[str, Item]]) -> dict[str, Item]:
    """The tensors (or what else goes by their names) of several networks as one file names them.

    >>> joined([{"head.bias": 1}]), joined([{"head.bias": 1}, {"head.bias": 2}])
    ({'head.bias': 1}, {'0.head.bias': 1, '1.head.bias': 2})
    """
    if len(networks) == 1:
        return dict(networks[0])
    return {f"{number}.{name}": item for number, network in enumerate(networks) for name, item in network.items()}


def separated(state_dict: Mapping[str, torch.Tensor], members: int) -> tuple[StateDict, ...]:
    """What `joined` put together: the tensors of each network."""
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
    """Writes weights and card as one file, under a temporary name first, so that no half-written model is ever seen.

    Memory-mapped tensors are written straight from their file: only the page cache grows.

    Args:
        path: where, ending in ".safetensors"; its folder is made.
        state_dict: every tensor of the card's network, in our names; of several networks, what `joined` gives.
        card: what the header is to say.
        dtype: "float16" halves the file (`build_network_from` gives float32 again); None keeps each tensor's type.

    Raises:
        ValueError: tensors that do not fit the card's network, or another `dtype`.
        UserError: a disk that is full, or a folder that cannot be written.
    """
    table = mismatches(_shapes_on(card), shapes_of(state_dict))
    if table:
        raise ValueError(f"these weights do not fit the card's network:\n{table}")
    if dtype not in (None, "float16"):
        raise ValueError(f"dtype is 'float16' or None, not {dtype!r}")
    tensors = {key: _stored(tensor, dtype) for key, tensor in state_dict.items()}
    metadata = {METADATA_KEY: json.dumps(card.to_dict(), ensure_ascii=False, allow_nan=False)}
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
    """The card of a model file; its weights are not read.

    Raises:
        UserError: no such file, a file of another kind, damaged or cut short, a card of another version, or tensors
            whose shapes are not those of the card's network.
    """
    path = existing_file(path)
    metadata, shapes = _read_header(path)
    card = _card_in(metadata, path)
    _require_fit(card, shapes, path)
    return card


def read_model(path: str | Path) -> tuple[StateDict, ModelCard]:
    """Weights and card. The weights are memory-mapped: they take memory only as they are used.

    Returns:
        The tensors in our names and in the file's type (float32 or float16), and the card. `separated` gives those of
            each network.

    Raises:
        UserError: as `read_card`.
    """
    card = read_card(path)
    try:
        return load_file(path), card
    except (SafetensorError, RuntimeError, OSError) as error:
        raise FileError(f"{path} is damaged ({error}); get it again.") from error


def build_network_from(card: ModelCard, state_dict: Mapping[str, torch.Tensor]) -> Network:
    """The card's network with these weights, in evaluation mode and float32.

    The network is laid out on the meta device and takes the tensors over, so the weights are in memory once.

    Raises:
        UserError: weights that do not fit the card's network.
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
    """Metadata and tensor shapes, the header's length checked against the file's before anything is allocated."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise FileError(f"{path} is not a .safetensors file, or it is cut short: its header does not fit into it.")
        text = file.read(length)
    try:
        tensors = json.loads(text)
        metadata = dict(tensors.pop("__metadata__", {}))
        shapes = {key: tuple(int(n) for n in entry["shape"]) for key, entry in tensors.items()}
        end = max(int(entry["data_offsets"][1]) for entry in tensors.values())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} is not a .safetensors file: its header cannot be read.") from error
    if 8 + length + end != size:
        raise FileError(f"{path} has {size:,} bytes where {8 + length + end:,} belong; copy or download it again.")
    return metadata, shapes


def _card_in(metadata: Mapping[str, str], path: Path) -> ModelCard:
    if METADATA_KEY not in metadata:
        raise FileError(
            f"{path} holds tensors but no stunet card, so how to use them is unknown; "
            "make a model file with `stunet weights import`."
        )
    try:
        return ModelCard.from_dict(json.loads(metadata[METADATA_KEY]))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise FileError(f"{path} cannot be used: {error}.") from error


def _require_fit(card: ModelCard, shapes: Mapping[str, Shape], path: Path) -> None:
    for claimed, what in ((card.network.least_tensors, "layers"), (card.members, "networks")):
        if claimed > len(shapes):
            raise FileError(f"{path}: its card claims {claimed} {what}, but it holds {len(shapes)} tensors.")
    try:
        table = mismatches(_shapes_on(card), shapes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise FileError(f"{path} cannot be used: {str(error).splitlines()[0]}.") from error
    if table:
        raise FileError(f"{path}: its tensors are not those of the network on its card:\n{table}")


# Shapes


def network_shapes(spec: NetworkSpec) -> dict[str, Shape]:
    """The shape of every tensor of a network, which is laid out without memory.

    Raises:
        UserError, ValueError: as `stunet.networks.registry.build`.
    """
    with without_weights():
        return shapes_of(build(spec).state_dict())


def _shapes_on(card: ModelCard) -> dict[str, Shape]:
    """Of every tensor in the file; of several networks each has its number before its name."""
    return joined([network_shapes(card.network)] * card.members)


def shapes_of(state_dict: Mapping[str, torch.Tensor]) -> dict[str, Shape]:
    """The shape of every tensor."""
    return {key: tuple(tensor.shape) for key, tensor in state_dict.items()}


def mismatches(expected: Mapping[str, Shape], found: Mapping[str, Shape]) -> str:
    """A table of the tensors that differ, are missing or do not belong; "" where all fit.

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
