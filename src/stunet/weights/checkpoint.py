"""Checkpoints of nnU-Net v1 (`.model`) and v2 (`.pth`), opened without running pickle code, in our names.

The official code (uni-medical/STU-Net) names its layers after nnU-Net v1's U-Net; `KEY_MAP` is the one place that knows
those names.
"""

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stunet.errors import FileError, UnsafeFileError, UserError
from stunet.files import existing_file
from stunet.weights.model_file import StateDict

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


@dataclass(frozen=True)
class Checkpoint:
    """What nnU-Net wrote, weights in our names.

    Attributes:
        path: the file.
        state_dict: tensors in our names, memory-mapped where the file's format allows it.
        official_names: the file has the official STU-Net's names.
        trainer: nnU-Net's trainer class, if the file names it (v2).
        plans: content of its plans: v2 stores them in every checkpoint, v1 beside it.
        configuration: which of these plans' configurations, e.g. "3d_fullres".
        dataset: v2's dataset.json.
        mirror_axes: axes (0, 1, 2 = Z, Y, X) with which nnU-Net averages mirrored copies.
        epoch: epochs trained.
        fold: which fold of a model folder it is, e.g. "0" or "all"; None for a file of its own.
    """

    path: Path
    state_dict: StateDict
    official_names: bool
    trainer: str | None = None
    plans: Mapping[str, Any] | None = None
    configuration: str | None = None
    dataset: Mapping[str, Any] = field(default_factory=dict)
    mirror_axes: tuple[int, ...] = (0, 1, 2)
    epoch: int | None = None
    fold: str | None = None


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Reads an nnU-Net v1 or v2 checkpoint; nothing in it is run.

    Raises:
        UserError: no such file, another kind of file, a damaged one, one that wants to run something, or one that
            holds no weights.
    """
    path = existing_file(path)
    content = _load_without_running(path)
    if not isinstance(content, dict):
        raise FileError(f"{path} holds no checkpoint, but a {type(content).__name__}.")
    weights = content.get("state_dict", content.get("network_weights", content))
    tensors = _tensors_in(weights, path)
    state_dict = to_our_names(tensors)
    if len(state_dict) < len(tensors):
        raise FileError(f"{path} holds some tensors twice, with and without the prefix of a wrapper ({WRAPPERS[0]!r}).")
    official_names = any(unwrapped(key) not in state_dict for key in tensors)
    try:
        return Checkpoint(path, state_dict, official_names, **_provenance(content))
    except (TypeError, ValueError) as error:
        raise FileError(f"{path} is damaged: what it says of its training cannot be read ({error}).") from error


def _provenance(content: Mapping[str, Any]) -> dict[str, Any]:
    """What a v2 checkpoint says of its training, and v1's epoch.

    Raises:
        TypeError, ValueError: values of other types than nnU-Net writes.
    """
    arguments = dict(content.get("init_args") or {}) if "network_weights" in content else {}
    mirror_axes = tuple(int(axis) for axis in content.get("inference_allowed_mirroring_axes", (0, 1, 2)) or ())
    if not set(mirror_axes) <= {0, 1, 2}:
        raise ValueError(f"mirror axes {mirror_axes}")
    return {
        "trainer": str(content["trainer_name"]) if "trainer_name" in content else None,
        "plans": arguments.get("plans"),
        "configuration": arguments.get("configuration"),
        "dataset": arguments.get("dataset_json") or {},
        "mirror_axes": mirror_axes,
        "epoch": int(content.get("current_epoch", content.get("epoch", 0))) or None,
    }


def _load_without_running(path: Path) -> Any:
    """The content of a `torch.save`d file, by torch's restricted unpickler; memory-mapped if it is a zip file."""
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip and not _is_torch_zip(path):
            raise FileError(f"{path} is a zip archive, not a model: unpack it yourself and give the file inside.")
        with torch.serialization.safe_globals(_numpy_globals()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's remarks on pickle protocols are for programmers
            return torch.load(str(path), map_location="cpu", weights_only=True, mmap=is_zip)
    except UserError:
        raise
    except Exception as error:  # a damaged archive or stream of pickle opcodes can raise anything
        raise _refusal(path, error) from error


def _is_torch_zip(path: Path) -> bool:
    """`torch.save` puts one folder into its archives, with `data.pkl` in it."""
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())


def _refusal(path: Path, error: Exception) -> FileError:
    """What to raise for a file that torch would not load."""
    wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
    if isinstance(error, pickle.UnpicklingError) and wanted:
        return UnsafeFileError(
            f"{path} wants to run {wanted[1]} when it is loaded; weights need nothing of the kind. It was refused, "
            "and nothing was run."
        )
    return FileError(f"{path} is not a checkpoint of nnU-Net, or it is damaged; copy or download it again.")


def _numpy_globals() -> list[Any]:
    """The numpy scalars and arrays that nnU-Net logs beside the weights, under numpy 1's module names and numpy 2's."""
    scalar: Any = np.float64(0).__reduce__()[0]
    reconstruct: Any = np.zeros(1).__reduce__()[0]
    aliases: list[Any] = [
        (function, f"{core}.multiarray.{name}")
        for core in ("numpy.core", "numpy._core")
        for function, name in ((scalar, "scalar"), (reconstruct, "_reconstruct"))
    ]
    number_types = {type(np.dtype(code)) for code in "?bBhHiIlLqQefdFD"}
    return [*aliases, np.ndarray, np.dtype, *number_types]


def _tensors_in(weights: Any, path: Path) -> StateDict:
    """The weights as dense tensors of real numbers, none larger than the file itself.

    Raises:
        UserError: none there, or something else among them.
    """
    if not isinstance(weights, Mapping) or not weights or not all(map(torch.is_tensor, weights.values())):
        raise FileError(f"{path} holds no weights: neither 'state_dict' (nnU-Net v1) nor 'network_weights' (v2).")
    tensors: StateDict = {str(key): tensor for key, tensor in weights.items()}
    odd = _without_real_numbers(tensors)
    if odd:
        raise FileError(f"{path} is not an STU-Net: {odd[0]} holds no real numbers.")
    if _claimed_bytes(tensors) > path.stat().st_size:
        raise UnsafeFileError(f"{path} claims more weights than fit into it; it is damaged or hostile.")
    return tensors


def _claimed_bytes(tensors: StateDict) -> int:
    """What the tensors need in memory. Those that share storage, under several names, count once."""
    claimed: dict[int, int] = {}
    for tensor in tensors.values():
        place = tensor.untyped_storage().data_ptr()
        claimed[place] = max(claimed.get(place, 0), tensor.numel() * tensor.element_size())
    return sum(claimed.values())


def _without_real_numbers(tensors: StateDict) -> list[str]:
    """Names of tensors that are neither real numbers nor, beside such, counts (int64)."""
    real = {key for key, tensor in tensors.items() if tensor.is_floating_point() and tensor.layout == torch.strided}
    return [key for key in tensors if key not in real and (not real or tensors[key].dtype != torch.int64)]


# Names


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
