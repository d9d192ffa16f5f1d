"""Read checkpoints of nnU-Net v1 (`.model`) and v2 (`.pth`) without running pickle code, and rename their tensors.

The official code (uni-medical/STU-Net) names its layers as in nnU-Net v1's U-Net; `KEY_MAP` translates them to our
names.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from stunet.confined import read_confined
from stunet.errors import FileError, UnsafeFileError
from stunet.files import existing_file
from stunet.weights.finite import require_finite
from stunet.weights.model_file import StateDict
from stunet.weights.saved_tensors import ITEM_BYTES, SavedTensor, read_saved

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
"""Official name -> ours; each {} is a number (stage, block), and ".weight" or ".bias" follows. Both number decoder
stages from the deepest (0) to full resolution (4)."""

WRAPPERS = ("module.", "_orig_mod.")
"""Prefixes that DistributedDataParallel and torch.compile add to every name."""

SAFE_TORCH = "2.10"
"""Older versions can be made to run code by a checkpoint, even with `weights_only` (CVE-2025-32434, CVE-2026-24747).

`stunet.weights.saved_tensors` reads without torch, but nnU-Net's own commands load the same file with it.
"""


@dataclass(frozen=True)
class Checkpoint:
    """The content of an nnU-Net checkpoint, with our tensor names.

    Attributes:
        path: the file.
        state_dict: tensors by our names, memory-mapped where the file format allows it.
        official_names: whether the file uses the official STU-Net's names.
        trainer: nnU-Net's trainer class, if known (v2).
        plans: content of the plans, which v2 stores in every checkpoint and v1 in a separate file.
        configuration: its configuration in the plans, e.g. "3d_fullres".
        dataset: v2's dataset.json.
        mirror_axes: axes (0, 1, 2 = Z, Y, X) along which nnU-Net mirrors images for test-time augmentation.
        epoch: number of trained epochs.
        fold: its fold in a model folder, e.g. "0" or "all"; None for a single file.
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
    """Read an nnU-Net v1 or v2 checkpoint without running code in it.

    A process of its own (`stunet.confined`) reads where the tensors lie; only then are they memory-mapped here.

    Raises:
        UserError: the file does not exist, is of another kind, is damaged, would run code, or has no weights or some
            that are NaN or infinite; or torch is too old to read it safely.
    """
    path = existing_file(path)
    _require_safe_torch(path)
    content = read_confined(read_saved, path)
    tensors = _checked(_mapped(content["weights"], path), path)
    state_dict = to_our_names(tensors)
    if len(state_dict) < len(tensors):
        raise FileError(
            f"{path} contains some tensors twice, with and without the prefix of a wrapper ({WRAPPERS[0]!r})."
        )
    require_finite(tensors, path)
    official_names = any(unwrapped(key) not in state_dict for key in tensors)
    try:
        return Checkpoint(path, state_dict, official_names, **_provenance(content))
    except (TypeError, ValueError) as error:
        raise FileError(f"{path} is damaged: its training metadata cannot be read ({error}).") from error


def _provenance(content: Mapping[str, Any]) -> dict[str, Any]:
    """The training metadata of a v2 checkpoint, or the epoch of a v1 checkpoint.

    Raises:
        TypeError, ValueError: a value has another type than nnU-Net writes.
    """
    arguments = dict(content.get("init_args") or {})
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


def _require_safe_torch(path: Path) -> None:
    if torch.__version__ < SAFE_TORCH:
        raise UnsafeFileError(
            f"{path}: torch {torch.__version__} is not safe for files of others: a checkpoint can make it run code "
            f"(CVE-2025-32434, CVE-2026-24747). Install torch {SAFE_TORCH} or newer."
        )


def _mapped(saved: Iterable[Sequence[Any]], path: Path) -> StateDict:
    """Tensors by name, memory-mapped where their place in the file allows it.

    Args:
        saved: name and fields of `SavedTensor`s.
        path: the file.

    Raises:
        UserError: the tensors are not in the file.
    """
    named = {str(name): SavedTensor(*fields) for name, *fields in saved}
    odd = [name for name, tensor in named.items() if tensor.dtype not in ITEM_BYTES]
    if odd:
        raise FileError(f"{path} is not an STU-Net: {odd[0]} does not contain real numbers.")
    whole: Any = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=path.stat().st_size)
    try:
        return {name: _tensor_in(whole, tensor) for name, tensor in named.items()}
    except (RuntimeError, TypeError, ValueError) as error:  # its tensors do not lie in their storages
        raise FileError(f"{path} is damaged: its tensors are not in it; copy or download it again.") from error


def _tensor_in(whole: Any, saved: SavedTensor) -> torch.Tensor:
    end = saved.place + saved.storage_bytes
    if not 0 <= saved.place <= end <= len(whole):
        raise ValueError("its storage ends after the file")
    storage = whole[saved.place : end]
    tensor = torch.empty(0, dtype=getattr(torch, saved.dtype))
    if saved.place % ITEM_BYTES[saved.dtype]:  # files before torch 1.6 are not aligned
        storage = storage.clone()
    return tensor.set_(storage, saved.start, tuple(saved.shape), tuple(saved.stride))


def _checked(tensors: StateDict, path: Path) -> StateDict:
    """The tensors, which must be real numbers that fit into the file.

    Raises:
        UserError: they do not.
    """
    odd = _without_real_numbers(tensors)
    if odd:
        raise FileError(f"{path} is not an STU-Net: {odd[0]} does not contain real numbers.")
    if _claimed_bytes(tensors) > path.stat().st_size:
        raise UnsafeFileError(f"{path} claims more weights than its size allows; it is damaged or malicious.")
    return tensors


def _claimed_bytes(tensors: StateDict) -> int:
    """The bytes that the tensors need. Tensors that share storage count once."""
    claimed: dict[int, int] = {}
    for tensor in tensors.values():
        place = tensor.untyped_storage().data_ptr()
        claimed[place] = max(claimed.get(place, 0), tensor.numel() * tensor.element_size())
    return sum(claimed.values())


def _without_real_numbers(tensors: StateDict) -> list[str]:
    """Names of tensors that are not real numbers; counts (int64) are allowed if other tensors are real."""
    real = {key for key, tensor in tensors.items() if tensor.is_floating_point() and tensor.layout == torch.strided}
    return [key for key in tensors if key not in real and (not real or tensors[key].dtype != torch.int64)]


# Names


def to_our_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Rename official names to ours; names that are not in `KEY_MAP` stay.

    >>> list(to_our_names({"module.conv_blocks_context.0.0.conv3.bias": 0}))
    ['encoder.stages.0.0.shortcut.bias']
    """
    return {_renamed(unwrapped(key), KEY_MAP): value for key, value in state_dict.items()}


def to_official_names(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Rename our names to the official ones: the inverse of `to_our_names`.

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
