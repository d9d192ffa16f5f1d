"""One `.safetensors` file is a whole model: weights, and in its header the card that says how to use them.

A safetensors file is eight bytes (the header's length, little-endian), a JSON header with every tensor's shape, and
the tensors' bytes; nothing in it can run. The card is JSON in the header's metadata under the key "stunet", so it is
read without touching the weights, and the weights are memory-mapped, so `huge` opens at once.
"""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stunet.errors import UserError
from stunet.files import replacing
from stunet.networks.network import Network, without_weights
from stunet.networks.registry import CLASSES, find_class
from stunet.networks.stunet import SIZES, Stride, STUNetConfig, build_stunet
from stunet.weights.shapes import Shape, mismatches, shapes_of

StateDict = dict[str, torch.Tensor]
"""Tensors by name, in the names of `stunet.networks`."""

Item = TypeVar("Item")

CARD_VERSION = 1
"""Rises when older programs could misread a card."""

METADATA_KEY = "stunet"
"""Where the card lies in the safetensors metadata."""

MAX_HEADER_BYTES = 25_000_000
"""No header of ours nears this (`huge` needs 50 kB); the same bound that huggingface_hub sets."""

READABLE_BY_ALL = 0o644
"""Mode of a model file; safetensors writes files that their owner alone can read, and models are shared."""

LAYER_COUNTS = ("depth", "depths", "stages")
"""Arguments of networks that say how many layers there are: a card may not claim more than there are tensors."""


class _Buildable(ABC):
    """What both kinds of architecture can tell of their network."""

    @abstractmethod
    def build(self) -> Network:
        """A new network.

        Raises:
            ValueError: numbers or names that no such network can have.
            UserError: its package is not installed.
        """

    def without_weights(self) -> Network:
        """The network on the meta device: `huge` costs nothing.

        Raises:
            ValueError, UserError: as `build`.
        """
        with without_weights():
            return self.build()

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor of the network."""
        return shapes_of(self.without_weights().state_dict())


@dataclass(frozen=True)
class Architecture(_Buildable):
    """Which STU-Net the weights belong to.

    Attributes:
        network: "stunet".
        input_channels: channels of the image.
        num_classes: classes, background included.
        width, depth, strides, downsampling, upsampling: see `stunet.networks.stunet.STUNetConfig`.
    """

    network: str
    input_channels: int
    num_classes: int
    width: int
    depth: int
    strides: tuple[Stride, ...]
    downsampling: str = "residual"
    upsampling: str = "nearest"

    @property
    def config(self) -> STUNetConfig:
        """What builds the network.

        Raises:
            ValueError: numbers or names that no STU-Net can have.
        """
        if self.network != "stunet":
            raise ValueError(f"the network is {self.network!r}, not 'stunet'")
        arguments = {name: value for name, value in asdict(self).items() if name != "network"}
        return STUNetConfig(**arguments)

    @property
    def size(self) -> str:
        """The size's name, or its two numbers where it has none, e.g. "width 48, depth 2"."""
        names = [name for name, size in SIZES.items() if (size.width, size.depth) == (self.width, self.depth)]
        return names[0] if names else f"width {self.width}, depth {self.depth}"

    @property
    def layers(self) -> int:
        """A number of layers, of which each has a tensor or more."""
        return self.depth

    def build(self) -> Network:
        """A new STU-Net."""
        return build_stunet(self.config)


@dataclass(frozen=True)
class OtherArchitecture(_Buildable):
    """Which other network the weights belong to.

    Attributes:
        network: one of `stunet.networks.registry.CLASSES`; no other class is ever looked up.
        input_channels: channels of the image.
        num_classes: classes, background included.
        arguments: the network's own: numbers, text, and lists of them.
    """

    network: str
    input_channels: int
    num_classes: int
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        if self.network not in CLASSES:
            raise ValueError(f"its network is {self.network!r}, and this stunet knows {', '.join(CLASSES)}")
        if not all(_is_plain(value) for value in self.arguments.values()):
            raise ValueError(f"arguments of a network are numbers, text and lists of them, not {self.arguments}")

    @property
    def size(self) -> str:
        """The network's name and its arguments, for people."""
        return ", ".join([self.network, *(f"{name} {value}" for name, value in self.arguments.items())])

    @property
    def layers(self) -> int:
        """A number of layers, of which each has a tensor or more."""
        lists = [value for value in self.arguments.values() if isinstance(value, list | tuple)]
        counts = [value for name in LAYER_COUNTS for value in _numbers_in(self.arguments.get(name))]
        return max(0, sum(counts), *map(len, lists))

    def build(self) -> Network:
        """A new network, as `Network` describes it."""
        network_class: Any = find_class(self.network)
        try:
            return network_class(self.input_channels, self.num_classes, **self.arguments)
        except UserError:
            raise
        except Exception as error:  # constructors of other packages raise anything
            raise ValueError(f"no {self.network} can have the arguments {self.arguments} ({error})") from error


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_plain(item) for item in value)
    return isinstance(value, int | float | str)


def _numbers_in(value: object) -> list[int]:
    items = value if isinstance(value, list | tuple) else [value]
    return [item for item in items if isinstance(item, int)]


AnyArchitecture = Architecture | OtherArchitecture


@dataclass(frozen=True)
class ModelCard:
    """All that is needed to use the weights, and to know where they come from.

    Attributes:
        name: how the model calls itself, e.g. "base".
        architecture: the network.
        preprocessing: the plan, as `stunet.plans.preprocessing.PreprocessingPlan.to_dict()` gives it.
        labels: class names; the index is the integer in the label map, [0] is "background".
        channels: what each input channel shows, e.g. ("CT",).
        mirror_axes: spatial axes (0, 1, 2 = Z, Y, X) with which mirrored copies may be averaged.
        training: how the weights came to be: trainer, epochs, machine.
        licence: of the weights.
        source: where they come from.
        metrics: results, with the cases that they were measured on.
        citation: the paper to cite.
        networks: how many networks of this architecture the file holds; their logits are averaged.
    """

    name: str
    architecture: AnyArchitecture
    preprocessing: Mapping[str, Any]
    labels: tuple[str, ...]
    channels: tuple[str, ...]
    mirror_axes: tuple[int, ...] = ()
    training: Mapping[str, Any] = field(default_factory=dict)
    licence: str = "unknown"
    source: str = "unknown"
    metrics: Mapping[str, Any] = field(default_factory=dict)
    citation: str = ""
    networks: int = 1

    def __post_init__(self) -> None:
        if self.networks < 1:
            raise ValueError(f"a model has one network or more, not {self.networks}")
        if len(self.labels) != self.architecture.num_classes:
            raise ValueError(f"{len(self.labels)} labels are named for {self.architecture.num_classes} classes")
        if len(self.channels) != self.architecture.input_channels:
            raise ValueError(f"{len(self.channels)} channels are named for {self.architecture.input_channels} inputs")
        if not set(self.mirror_axes) <= {0, 1, 2}:
            raise ValueError(f"mirror axes are among 0, 1 and 2, not {self.mirror_axes}")

    def shapes(self) -> dict[str, Shape]:
        """The shape of every tensor in the file; of several networks each has its number before its name.

        Raises:
            ValueError: numbers or names that no such network can have.
            UserError: the network's package is not installed.
        """
        of_one = self.architecture.shapes()
        return joined([of_one] * self.networks)

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON holds it."""
        return {"card_version": CARD_VERSION, **asdict(self)}

    @staticmethod
    def from_dict(card: Mapping[str, Any]) -> "ModelCard":
        """The card that `to_dict` wrote; fields that this version does not know are passed over.

        Raises:
            ValueError: another card version, or a field that is missing or of a wrong type.
        """
        if card.get("card_version") != CARD_VERSION:
            raise ValueError(
                f"its card has version {card.get('card_version')}, and this stunet reads version {CARD_VERSION}; "
                "update stunet"
            )
        try:
            return ModelCard(**_known_fields(ModelCard, card) | _typed_fields(card))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"its card is incomplete or damaged ({error})") from error


def _known_fields(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    return {f.name: values[f.name] for f in fields(cls) if f.name in values}


def _typed_fields(card: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a card that JSON cannot hold in their own type, and those whose type matters to others."""
    return {
        "architecture": _architecture(card["architecture"]),
        "preprocessing": dict(card["preprocessing"]),
        "networks": int(card.get("networks", 1)),
        "labels": tuple(str(label) for label in card["labels"]),
        "channels": tuple(str(channel) for channel in card["channels"]),
        "mirror_axes": tuple(int(axis) for axis in card["mirror_axes"]),
        "training": dict(card.get("training", {})),
        "metrics": dict(card.get("metrics", {})),
    }


def _architecture(fields_on_card: Mapping[str, Any]) -> AnyArchitecture:
    if fields_on_card["network"] != "stunet":
        return OtherArchitecture(**{"arguments": {}, **_known_fields(OtherArchitecture, fields_on_card)})
    architecture = _known_fields(Architecture, fields_on_card)
    architecture["strides"] = tuple(tuple(int(s) for s in stride) for stride in architecture["strides"])
    return Architecture(**architecture)


def stunet_on(card: ModelCard) -> Architecture:
    """The card's architecture, which must be an STU-Net's.

    Raises:
        UserError: it is another network's.
    """
    if isinstance(card.architecture, OtherArchitecture):
        raise UserError(f"{card.name!r} is a {card.architecture.network}, and this is for STU-Nets only.")
    return card.architecture


# Several networks in one file


def joined(networks: Sequence[Mapping[str, Item]]) -> dict[str, Item]:
    """The tensors (or what else goes by their names) of several networks as one file names them.

    >>> joined([{"head.bias": 1}]), joined([{"head.bias": 1}, {"head.bias": 2}])
    ({'head.bias': 1}, {'0.head.bias': 1, '1.head.bias': 2})
    """
    if len(networks) == 1:
        return dict(networks[0])
    return {f"{number}.{name}": item for number, network in enumerate(networks) for name, item in network.items()}


def separated(state_dict: Mapping[str, torch.Tensor], networks: int) -> tuple[StateDict, ...]:
    """What `joined` put together: the tensors of each network."""
    if networks == 1:
        return (dict(state_dict),)
    found: tuple[StateDict, ...] = tuple({} for _ in range(networks))
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
        ValueError: tensors that do not fit the card's architecture, or another `dtype`.
        UserError: a disk that is full, or a folder that cannot be written.
    """
    table = mismatches(card.shapes(), shapes_of(state_dict))
    if table:
        raise ValueError(f"these weights do not fit the card's architecture:\n{table}")
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
        raise UserError(f"{path}: cannot be written ({error}).") from error


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
        raise UserError(f"{path} is damaged ({error}); get it again.") from error


def build_network_from(card: ModelCard, state_dict: Mapping[str, torch.Tensor]) -> Network:
    """The card's network with these weights, in evaluation mode and float32.

    The network is laid out on the meta device and takes the tensors over, so the weights are in memory once.

    Raises:
        UserError: weights that do not fit the card's architecture.
    """
    table = mismatches(card.architecture.shapes(), shapes_of(state_dict))
    if table:
        raise UserError(f"The weights of model {card.name!r} do not fit its architecture:\n{table}")
    network = card.architecture.without_weights()
    own = network.state_dict()
    network.load_state_dict({key: tensor.to(own[key].dtype) for key, tensor in state_dict.items()}, assign=True)
    return network.eval()


def existing_file(path: str | Path) -> Path:
    """`path`, if a file with at least one byte is there, and may be read.

    Raises:
        UserError: nothing there, a folder, an empty file, or one that this user may not read.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no file {path}.")
    if not path.is_file():
        raise UserError(f"{path} is a folder, not a model file.")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} may not be read by this user; change its permissions.")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); copy or download it again.")
    return path


def _read_header(path: Path) -> tuple[dict[str, str], dict[str, Shape]]:
    """Metadata and tensor shapes, the header's length checked against the file's before anything is allocated."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(size - 8, MAX_HEADER_BYTES):
            raise UserError(f"{path} is not a .safetensors file, or it is cut short: its header does not fit into it.")
        text = file.read(length)
    try:
        tensors = json.loads(text)
        metadata = dict(tensors.pop("__metadata__", {}))
        shapes = {key: tuple(int(n) for n in entry["shape"]) for key, entry in tensors.items()}
        end = max(int(entry["data_offsets"][1]) for entry in tensors.values())
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is not a .safetensors file: its header cannot be read.") from error
    if 8 + length + end != size:
        raise UserError(f"{path} has {size:,} bytes where {8 + length + end:,} belong; copy or download it again.")
    return metadata, shapes


def _card_in(metadata: Mapping[str, str], path: Path) -> ModelCard:
    if METADATA_KEY not in metadata:
        raise UserError(
            f"{path} holds tensors but no stunet card, so how to use them is unknown; "
            "make a model file with `stunet weights import`."
        )
    try:
        return ModelCard.from_dict(json.loads(metadata[METADATA_KEY]))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} cannot be used: {error}.") from error


def _require_fit(card: ModelCard, shapes: Mapping[str, Shape], path: Path) -> None:
    architecture = card.architecture
    if architecture.layers > len(shapes):
        raise UserError(f"{path}: its card claims depth {architecture.layers}, but it holds {len(shapes)} tensors.")
    if card.networks > len(shapes):
        raise UserError(f"{path}: its card claims {card.networks} networks, but it holds {len(shapes)} tensors.")
    try:
        table = mismatches(card.shapes(), shapes)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(f"{path} cannot be used: {str(error).splitlines()[0]}.") from error
    if table:
        raise UserError(f"{path}: its tensors are not those of the network on its card:\n{table}")
