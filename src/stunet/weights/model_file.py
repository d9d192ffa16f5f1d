"""Read and write models as single `.safetensors` files: the weights, and in the header a card on how to use them.

A safetensors file consists of eight bytes (the header's length, little-endian), a JSON header with every tensor's
shape, and the tensors' bytes; it contains no code. The card is JSON in the header's metadata under the key "stunet", so
it can be read without the weights. The weights are memory-mapped, so they take memory only when used.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stunet.errors import FileError, OutputError, UserError
from stunet.files import printable, replacing
from stunet.memory import explaining_full_main_memory
from stunet.networks.network import Network, without_weights
from stunet.networks.registry import build
from stunet.plans.network_spec import NetworkSpec
from stunet.weights.finite import require_finite
from stunet.weights.model_card import METADATA_KEY, ModelCard, Shape, read_header

StateDict = dict[str, torch.Tensor]
"""Tensors by their names in `stunet.networks`."""

Item = TypeVar("Item")

SHOWN_MISMATCHES = 12
"""The number of wrong shapes that a message lists; the others are counted."""

READABLE_BY_ALL = 0o644
"""Permissions of a model file. safetensors writes files that only their owner can read, but models are shared."""


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
    card, shapes = read_header(path)
    _require_fit(card, shapes, Path(path))
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
