"""The names that the official STU-Net code gives its layers, and ours.

The official code (uni-medical/STU-Net) names them after nnU-Net v1's U-Net; this is the one place that knows those
names.
"""

import re
from collections.abc import Mapping
from typing import Any

KEY_MAP: dict[str, str] = {
    "conv_blocks_context.{}.{}.conv1": "encoder.stages.{}.{}.conv1",
    "conv_blocks_context.{}.{}.norm1": "encoder.stages.{}.{}.norm1",
    "conv_blocks_context.{}.{}.conv2": "encoder.stages.{}.{}.conv2",
    "conv_blocks_context.{}.{}.norm2": "encoder.stages.{}.{}.norm2",
    "conv_blocks_context.{}.{}.conv3": "encoder.stages.{}.{}.shortcut",
    "upsample_layers.{}.conv": "decoder.upsamples.{}.conv",
    "conv_blocks_localization.{}.{}.conv1": "decoder.stages.{}.{}.conv1",
    "conv_blocks_localization.{}.{}.norm1": "decoder.stages.{}.{}.norm1",
    "conv_blocks_localization.{}.{}.conv2": "decoder.stages.{}.{}.conv2",
    "conv_blocks_localization.{}.{}.norm2": "decoder.stages.{}.{}.norm2",
    "conv_blocks_localization.{}.{}.conv3": "decoder.stages.{}.{}.shortcut",
    "seg_outputs.{}": "decoder.seg_layers.{}",
}
"""Official name -> ours; each {} is a number (stage, block), and ".weight" or ".bias" follows. Both count decoder
stages from the deepest (0) to full resolution (4)."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile put before every name."""


def to_our_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under our names; names that `KEY_MAP` does not hold stay as they are.

    >>> list(to_our_names({"module.conv_blocks_context.0.0.conv3.bias": 0}))
    ['encoder.stages.0.0.shortcut.bias']
    """
    return {_renamed(unwrapped(key), KEY_MAP): value for key, value in state_dict.items()}


def to_official_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """The same values under the official names: the inverse of `to_our_names`.

    >>> list(to_official_names({"decoder.seg_layers.4.weight": 0}))
    ['seg_outputs.4.weight']
    """
    inverse = {ours: official for official, ours in KEY_MAP.items()}
    return {_renamed(key, inverse): value for key, value in state_dict.items()}


def _renamed(key: str, names: Mapping[str, str]) -> str:
    layer, _, leaf = key.rpartition(".")
    numbers = re.findall(r"(?<=\.)\d+(?=\.|$)", layer)
    template = names.get(re.sub(r"(?<=\.)\d+(?=\.|$)", "{}", layer))
    return key if template is None else f"{template.format(*numbers)}.{leaf}"


def unwrapped(key: str) -> str:
    """The key without the prefixes of wrappers.

    >>> unwrapped("module._orig_mod.seg_outputs.0.weight")
    'seg_outputs.0.weight'
    """
    while key.startswith(WRAPPERS):
        key = key.partition(".")[2]
    return key
