"""Build a network for your own training loop, with random or pretrained weights."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch

from stunet.errors import UserError
from stunet.networks import registry
from stunet.networks.network import Network
from stunet.networks.stunet import STUNet
from stunet.weights.catalogue import CATALOGUE
from stunet.weights.model import read_pretrained
from stunet.weights.model_card import ModelCard, stunet_on
from stunet.weights.transfer import Task, TransferOptions, transfer

logger = logging.getLogger(__name__)


def build_network(
    name: str,
    input_channels: int | None = None,
    num_classes: int | None = None,
    pretrained: bool | str | Path = False,
    **options: object,
) -> Network:
    """Build a network with random weights, initialised as in its paper, or with those of a trained model.

    Pretrained weights work only for STU-Nets. The body is loaded. If there are more input channels than in the model,
    they share its weights. The head is new, with `num_classes` classes, and random according to `torch.manual_seed`;
    without `num_classes` the model's head is kept. The network's `transfer_report` describes what was loaded.

    Args:
        name: one of `stunet.list_networks()`, for instance "base".
        input_channels: channels of the image; by default 1, or those of the pretrained model.
        num_classes: classes, background included.
        pretrained: True for the catalogue's model of this size, or a source for `load_model`: the name of a model in
            the catalogue (downloaded on first use), a file or a folder.
        options: further arguments of the network; `deep_supervision=True` returns the logits of all heads. For STU-Net
            see `stunet.networks.stunet.STUNet`; the strides default to those of the pretrained model.

    Returns:
        A module in training mode, from (B, C, Z, Y, X) to logits (B, K, Z, Y, X).

    Raises:
        UserError: the name is unknown, `num_classes` is missing, an option is invalid, a package is not installed, or
            pretrained weights cannot be read or have another size.

    >>> build_network("tiny", num_classes=3).head.out_channels
    3
    """
    registry.find_network(name)
    if not pretrained:
        return _random(name, 1 if input_channels is None else input_channels, num_classes, options)
    source = _model_of_size(name) if pretrained is True else pretrained
    return _pretrained(name, input_channels, num_classes, source, options)


def _random(name: str, input_channels: int, num_classes: int | None, options: Mapping[str, object]) -> Network:
    if num_classes is None:
        raise UserError("Give num_classes, the number of classes with background: random weights have no head to keep.")
    try:
        network = registry.build_network(name, input_channels, num_classes, **options)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"Network {name!r} cannot be built: {error}.") from error
    return cast(Network, network)


def _model_of_size(size: str) -> str:
    """The catalogue's model of this size."""
    models = {entry.size: entry.name for entry in CATALOGUE.values()}
    if size not in models:
        raise UserError(
            f"The catalogue has no weights for network {size!r}, only for {', '.join(models)}. Give the name or the "
            "path of a model of the same width and depth."
        )
    return models[size]


def _pretrained(
    name: str, input_channels: int | None, num_classes: int | None, source: str | Path, options: Mapping[str, object]
) -> Network:
    if registry.find_network(name).kind != "stunet":
        raise UserError(
            f"Pretrained weights are only for STU-Nets, but {name!r} is another network; leave pretrained out."
        )
    state_dict, card = read_pretrained(source)
    spec = stunet_on(card)
    if card.regions and num_classes is None:
        raise UserError(f"The head of {card.name!r} is for overlapping regions and cannot be kept; give num_classes.")
    task = _task(card, input_channels, num_classes)
    if card.preprocessing is not None:  # else the strides are unknown
        options = {"strides": spec.arguments["strides"], **options}
    network = _random(name, len(task.channels), len(task.labels), options)
    assert isinstance(network, STUNet)
    seed = torch.initial_seed() % 2**63
    report = transfer(state_dict, card, network, task, TransferOptions(keep_head=num_classes is None, seed=seed))
    network.transfer_report = report
    for what, which in report.rows():
        logger.info("%s: %s", what, which)
    return network


def _task(card: ModelCard, input_channels: int | None, num_classes: int | None) -> Task:
    """The model's own task, or one with numbered channels and classes. Its preprocessing is unknown."""
    channels, labels = card.channels, card.labels
    if input_channels not in (None, len(channels)):
        channels = tuple(f"channel {number}" for number in range(input_channels or 0))
    if num_classes is not None:
        labels = tuple(f"class {label}" for label in range(num_classes))
    return Task(labels, channels, None)
