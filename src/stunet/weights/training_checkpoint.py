"""What `stunet train` writes while it trains, by one process or by many: a folder of safetensors files.

Each of several ranks writes a file with its parts of the tensors; `saved_offsets` in the file's metadata says where a
part belongs (the format of torch.distributed.checkpoint). One process writes whole tensors, without offsets.
"""

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from stunet.errors import FileError
from stunet.files import read_json_object
from stunet.weights.checkpoint import Checkpoint
from stunet.weights.model_file import Shape, StateDict

OPTIMIZER_SEPARATOR = "::"
"""In the names of what the optimiser keeps, as in "head.weight::momentum_buffer"; no weight has it in its name."""

STATE_NAME = "state.json"
"""Where the training stands, but for its tensors."""

OFFSETS_KEY = "DCP_SHARDING_INFO"
"""Where torch.distributed.checkpoint puts the offsets into a file's metadata."""


@dataclass(frozen=True)
class Part:
    """A block of a tensor.

    Attributes:
        file: that holds it.
        name: of the tensor.
        offsets: of the block's first element along each axis.
        shape: of the block.
    """

    file: Path
    name: str
    offsets: Shape
    shape: Shape


def is_training_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like one."""
    return (folder / STATE_NAME).is_file() and any(folder.glob("*.safetensors"))


def read_training_checkpoint(folder: Path) -> Checkpoint:
    """The weights of a training checkpoint, with the plans of the model folder around it, ready to be imported.

    Args:
        folder: such as `.../STUNetTrainer_large__STUNetPlans_large__3d_fullres/fold_0/stunet_checkpoint`.

    Raises:
        UserError: files that are missing or damaged.
    """
    require_all_parts(folder)
    fold = folder.resolve().parent
    trainer, _, configuration = [*fold.parent.name.split("__"), "", ""][:3]
    state = read_json_object(folder / STATE_NAME)
    return Checkpoint(
        path=folder,
        state_dict=read_parts(folder),
        official_names=False,
        trainer=trainer,
        plans=read_json_object(fold.parent / "plans.json"),
        configuration=configuration,
        dataset=read_json_object(fold.parent / "dataset.json"),
        mirror_axes=tuple(int(axis) for axis in state.get("mirror_axes", ())),
        epoch=state.get("epoch"),
    )


def read_parts(folder: Path, optimizer: bool = False) -> StateDict:
    """The weights of a folder, or what the optimiser keeps, put together from all its files.

    Raises:
        UserError: no file, or parts that are missing, damaged or contradictory.
    """
    everything = _parts_by_name(folder)
    parts = {name: blocks for name, blocks in everything.items() if (OPTIMIZER_SEPARATOR in name) is optimizer}
    shapes = {name: _whole_shape(folder, name, blocks) for name, blocks in parts.items()}
    whole: StateDict = {}
    for file in sorted({part.file for blocks in parts.values() for part in blocks}):
        with safe_open(file, "pt") as content:
            for part in (part for blocks in parts.values() for part in blocks if part.file == file):
                block = content.get_tensor(part.name)
                target = whole.setdefault(part.name, torch.empty(shapes[part.name], dtype=block.dtype))
                target[tuple(slice(o, o + n) for o, n in zip(part.offsets, part.shape, strict=True))] = block
    return whole


def require_all_parts(folder: Path) -> None:
    """Read the headers of all files that belong to a checkpoint and check them, without the tensors.

    Raises:
        UserError: a file or a part that is missing, damaged or contradictory.
    """
    for name in read_json_object(folder / STATE_NAME).get("files", ()):
        if not (folder / str(name)).is_file():
            raise FileError(f"The checkpoint {folder} is damaged: {name} is missing.")
    for name, parts in _parts_by_name(folder).items():
        _whole_shape(folder, name, parts)


def _parts_by_name(folder: Path) -> dict[str, list[Part]]:
    parts: dict[str, list[Part]] = {}
    for part in _all_parts(folder):
        parts.setdefault(part.name, []).append(part)
    return parts


def _all_parts(folder: Path) -> Iterator[Part]:
    """What the headers of the files say."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileError(f"{folder} holds no part of a checkpoint (*.safetensors).")
    for file in files:
        try:
            with safe_open(file, "pt") as content:
                offsets = json.loads((content.metadata() or {}).get(OFFSETS_KEY, "{}"))
                for name in content.keys():  # noqa: SIM118 (not a mapping)
                    shape = tuple(content.get_slice(name).get_shape())
                    where = offsets[name]["saved_offsets"] if offsets else [0] * len(shape)
                    yield Part(file, name, tuple(int(n) for n in where), shape)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"The checkpoint {folder} is damaged ({file.name}: {error}).") from error


def _whole_shape(folder: Path, name: str, parts: list[Part]) -> Shape:
    """The shape of a tensor, once its parts are known to fill it: nothing larger than the files is ever allocated."""
    if any(len(part.offsets) != len(part.shape) or min(part.offsets, default=0) < 0 for part in parts):
        raise FileError(f"{folder}: the parts of {name!r} contradict each other.")
    ends = [[o + n for o, n in zip(part.offsets, part.shape, strict=True)] for part in parts]
    if len({len(end) for end in ends}) > 1:
        raise FileError(f"{folder}: the parts of {name!r} contradict each other.")
    shape = tuple(max(axis) for axis in zip(*ends, strict=True))
    if sum(math.prod(part.shape) for part in parts) != math.prod(shape):
        raise FileError(f"{folder}: parts of {name!r} are missing; is the file of each rank there?")
    return shape
