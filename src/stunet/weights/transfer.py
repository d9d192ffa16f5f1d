"""Transfer the weights of a model to another task's network (paper, section 3.4).

The body is loaded, the head is new, and the stem is adapted to the task's channels. Strides and spacing may differ,
because a convolution's weights do not depend on them. Letters: O outputs and C inputs of a convolution.
"""

import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import nn

from stunet.errors import UserError, listed
from stunet.networks.registry import size_of
from stunet.networks.stunet import STUNet
from stunet.plans.network_spec import NetworkSpec
from stunet.plans.preprocessing import PreprocessingPlan
from stunet.weights.model_card import ModelCard, stunet_on
from stunet.weights.model_file import StateDict
from stunet.weights.transfer_report import SHOWN_NAMES, TransferReport, remarks_on


@dataclass(frozen=True)
class Task:
    """What a network learns.

    Attributes:
        labels: class names, background first; () if the outputs are regions that overlap.
        channels: content of each input channel.
        preprocessing: how its images are prepared; None if unknown.
    """

    labels: tuple[str, ...]
    channels: tuple[str, ...]
    preprocessing: PreprocessingPlan | None


@dataclass(frozen=True)
class TransferOptions:
    """How weights are transferred.

    Attributes:
        keep_head: classes with the same name in source and task keep the source's rows of the heads.
        divide_channels: divide the stem's weights by the number of channels that share them, so that equal channels
            give the result of one.
        seed: seed of the new head.
    """

    keep_head: bool = False
    divide_channels: bool = False
    seed: int = 0


DEFAULT_OPTIONS = TransferOptions()


def transfer(
    state_dict: Mapping[str, torch.Tensor],
    card: ModelCard,
    network: STUNet,
    task: Task,
    options: TransferOptions = DEFAULT_OPTIONS,
) -> TransferReport:
    """Initialise `network`, built for `task`, with a model's weights (section 3.4). Its parameters are set in place.

    Args:
        state_dict: the source's weights, by our names.
        card: the source's card. If its preprocessing is unknown, so are its strides.
        network: a network with the source's width and depth, on any device.
        task: the task of the network.
        options: how to transfer.

    Raises:
        UserError: the source has another kind, width or depth, or `keep_head` is set and no class is in common.
        ValueError: the network was not built for the task.
    """
    _require_same_size(card, network)
    if len(task.channels) != network.input_channels or len(task.labels) not in (0, network.num_classes):
        raise ValueError(
            f"the task has {len(task.channels)} channels and {len(task.labels)} classes, and the network was built for "
            f"{network.input_channels} and {network.num_classes}"
        )
    rows = _rows_to_keep(card, task) if options.keep_head else {}
    channel_sources = channels_to_start_with(card.channels, task.channels)
    start = replicate_input_channels(state_dict, network.stem_keys, channel_sources, options.divide_channels)
    start = keep_head_rows(replace_head(start, network, options.seed), state_dict, network.head_keys, rows)
    fitting = _load_fitting(start, network)
    return _report(state_dict, card, network, task, rows, channel_sources, fitting)


# The stem


def channels_to_start_with(source: Sequence[str], task: Sequence[str]) -> tuple[int, ...]:
    """For each of a task's channels, the source's channel with the same name, or else the next in turn.

    >>> channels_to_start_with(["CT"], ["T1", "T2"])
    (0, 0)
    >>> channels_to_start_with(["CT", "PET"], ["PET", "CT"])
    (1, 0)
    """
    named = _indices_by_name(source)
    return tuple(named.get(_plain(name), index % len(source)) for index, name in enumerate(task))


def replicate_input_channels(
    state_dict: Mapping[str, torch.Tensor], stem_keys: Iterable[str], channels: Sequence[int], divide: bool = False
) -> StateDict:
    """Replicate the stem's weights for other input channels; each gets those of one of the source's channels.

    Args:
        state_dict: the source's weights.
        stem_keys: names of the weights (O, C, Z, Y, X) of the convolutions that read the image.
        channels: for each new channel, the source's channel whose weights it gets.
        divide: divide by the number of new channels that share the weights. The official code does not.

    Returns:
        `state_dict` with other tensors under `stem_keys`.
    """
    times = Counter(channels)
    shares_C = torch.tensor([times[channel] for channel in channels]).view(1, -1, 1, 1, 1)
    replicated = dict(state_dict)
    for key in stem_keys:
        weight_OCZYX = state_dict[key][:, list(channels)].float()
        replicated[key] = weight_OCZYX / shares_C if divide else weight_OCZYX
    return replicated


def with_channels(
    state_dict: Mapping[str, torch.Tensor], card: ModelCard, channels: int, divide: bool = False
) -> StateDict:
    """Adapt a model's weights to another number of input channels, which use those of the source in turn.

    Raises:
        UserError: there is no channel, or the network is not an STU-Net.
    """
    stunet_on(card)
    if channels < 1:
        raise UserError(f"A network has one input channel or more, not {channels}.")
    sources = [channel % len(card.channels) for channel in range(channels)]
    return replicate_input_channels(state_dict, STUNet.stem_keys, sources, divide)


# The head


def replace_head(state_dict: Mapping[str, torch.Tensor], network: STUNet, seed: int) -> StateDict:
    """Replace the heads by new ones for `network`, initialised by `STUNet.initialize` with `seed`, deepest first.

    Returns:
        `state_dict` with other tensors where names begin with `network.head_keys`, on the CPU.
    """
    replaced = {key: value for key, value in state_dict.items() if not key.startswith(network.head_keys)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, module in network.named_modules():
            if name.startswith(network.head_keys) and isinstance(module, nn.Conv3d):
                head = deepcopy(module).cpu()
                STUNet.initialize(head)
                replaced |= {f"{name}.{leaf}": value.detach() for leaf, value in head.named_parameters()}
    return replaced


def rows_of_same_name(source: Sequence[str], task: Sequence[str]) -> dict[int, int]:
    """Map the task's labels to the source's for classes with the same name; background is 0 in both.

    Case is ignored, and spaces, hyphens and underscores are equal.

    >>> rows_of_same_name(["background", "liver", "kidney_left"], ["background", "Kidney left", "tumour"])
    {0: 0, 1: 2}
    """
    named = _indices_by_name(source[1:])
    common = {label: named[_plain(name)] + 1 for label, name in enumerate(task) if label and _plain(name) in named}
    return {0: 0, **common}


def keep_head_rows(
    state_dict: Mapping[str, torch.Tensor],
    source: Mapping[str, torch.Tensor],
    head_keys: tuple[str, ...],
    rows: Mapping[int, int],
) -> StateDict:
    """Copy some rows of the source's heads to the heads at all resolutions.

    Args:
        state_dict: weights with the task's heads.
        source: weights with the source's heads.
        head_keys: prefixes of the heads' names.
        rows: maps the task's rows to the source's.

    Returns:
        `state_dict` with other tensors where names begin with `head_keys`.
    """
    kept = dict(state_dict)
    for key in (key for key in state_dict if key.startswith(head_keys)):
        head = state_dict[key].clone()
        head[list(rows)] = source[key][list(rows.values())].to(head)
        kept[key] = head
    return kept


def _rows_to_keep(card: ModelCard, task: Task) -> dict[int, int]:
    if not task.labels or card.regions:
        whose = "The task's classes" if not task.labels else f"The classes of {card.name!r}"
        raise UserError(f"{whose} are regions that overlap, so head rows cannot be kept. Leave --keep-head out.")
    rows = rows_of_same_name(card.labels, task.labels)
    if len(rows) < 2:
        raise UserError(
            f"No class has the same name in {card.name!r}, so there are no head rows to keep. The model has "
            f"{listed(card.labels[1:], SHOWN_NAMES)}; the task has {listed(task.labels[1:], SHOWN_NAMES)}."
        )
    return rows


# The whole


def _require_same_size(card: ModelCard, network: STUNet) -> None:
    source = stunet_on(card)
    if (source.arguments["width"], source.arguments["depth"]) != (network.width, network.depth):
        raise UserError(
            f"The weights of {card.name!r} are for size {_size(source)}, but this network is "
            f"{_size(network.spec)}: widths and depths must match. Train size {size_of(source)}, or start from a "
            f"model of size {size_of(network.spec)}."
        )


def _size(spec: NetworkSpec) -> str:
    numbers = f"width {spec.arguments['width']}, depth {spec.arguments['depth']}"
    return numbers if size_of(spec) == numbers else f"{size_of(spec)} ({numbers})"


def _load_fitting(start: Mapping[str, torch.Tensor], network: STUNet) -> frozenset[str]:
    """Set all tensors of the network that `start` contains with the same shape, and return their names."""
    own = network.state_dict()
    fitting = frozenset(key for key, tensor in own.items() if key in start and start[key].shape == tensor.shape)
    with torch.no_grad():
        for key in fitting:
            own[key].copy_(start[key])
    return fitting


def _report(
    source: Mapping[str, torch.Tensor],
    card: ModelCard,
    network: STUNet,
    task: Task,
    rows: Mapping[int, int],
    channel_sources: Sequence[int],
    fitting: frozenset[str],
) -> TransferReport:
    sizes = {key: tensor.numel() for key, tensor in network.state_dict().items()}
    heads = tuple(key for key in sizes if key.startswith(network.head_keys))
    stem = () if list(channel_sources) == list(range(len(card.channels))) else network.stem_keys
    loaded = _without(sizes, {*_without(sizes, fitting), *heads, *stem})
    kept_rows = [task.labels[label] for label in sorted(rows)]
    return TransferReport(
        source=card.name,
        source_size=size_of(card.network),
        loaded=loaded,
        replicated=stem,
        reinitialised=_without(sizes, fitting) + (heads if len(rows) < network.num_classes else ()),
        left_over=_without(source, {*loaded, *stem, *(heads if rows else ())}),
        channels=tuple((name, card.channels[i]) for name, i in zip(task.channels, channel_sources, strict=True)),
        rows_kept=tuple(kept_rows),
        rows_new=_without(task.labels, kept_rows),
        parameters_kept=sum(map(sizes.__getitem__, (*loaded, *stem)))
        + sum(map(sizes.__getitem__, heads)) // network.num_classes * len(rows),
        parameters=sum(sizes.values()),
        source_strides=None if card.preprocessing is None else stunet_on(card).arguments["strides"],
        strides=network.strides,
        remarks=tuple(remarks_on(card, network, task.channels, task.preprocessing, channel_sources)),
    )


def _without(names: Iterable[str], used: Container[str]) -> tuple[str, ...]:
    return tuple(name for name in names if name not in used)


# Names


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip().casefold())


def _indices_by_name(names: Sequence[str]) -> dict[str, int]:
    """The first index of each name."""
    return {_plain(name): index for index, name in reversed(list(enumerate(names)))}
