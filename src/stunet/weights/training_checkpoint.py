"""Read the checkpoints that `stunet train` writes during training: folders of safetensors files.

With several ranks, each writes a file with its shards of the tensors; `saved_offsets` in the file's metadata gives the
position of each shard (the format of torch.distributed.checkpoint). A single process writes whole tensors without
offsets.
"""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from stunet.errors import FileError
from stunet.files import read_json_object
from stunet.memory import explaining_full_main_memory
from stunet.weights.checkpoint import Checkpoint
from stunet.weights.finite import require_finite
from stunet.weights.model_card import Shape
from stunet.weights.model_file import StateDict

OPTIMIZER_SEPARATOR = "::"
"""Part of the names of the optimiser's state, as in "head.weight::momentum_buffer", but not of weights."""

STATE_NAME = "state.json"
"""The file with the training state, except its tensors."""

OFFSETS_KEY = "DCP_SHARDING_INFO"
"""The metadata key under which torch.distributed.checkpoint stores the offsets."""


@dataclass(frozen=True)
class Shard:
    """A block of a tensor.

    Attributes:
        file: file that contains the block.
        name: name of the tensor.
        offsets: index of the block's first element along each axis.
        shape: shape of the block.
    """

    file: Path
    name: str
    offsets: Shape
    shape: Shape

    @property
    def place(self) -> tuple[slice, ...]:
        """The position of the block in the tensor."""
        return tuple(slice(start, start + size) for start, size in zip(self.offsets, self.shape, strict=True))


def read_training_checkpoint(folder: Path) -> Checkpoint:
    """Read the weights of a training checkpoint, and the plans of the model folder that contains it, for import.

    Args:
        folder: for example `.../STUNetTrainer_large__STUNetPlans_large__3d_fullres/fold_0/stunet_checkpoint`.

    Raises:
        UserError: a file is missing or damaged, or weights are NaN or infinite.
    """
    require_all_shards(folder)
    fold = folder.resolve().parent
    trainer, _, configuration = [*fold.parent.name.split("__"), "", ""][:3]
    state = read_json_object(folder / STATE_NAME)
    weights = join_shards(folder)
    require_finite(weights, folder)
    return Checkpoint(
        path=folder,
        state_dict=weights,
        official_names=False,
        trainer=trainer,
        plans=read_json_object(fold.parent / "plans.json"),
        configuration=configuration,
        dataset=read_json_object(fold.parent / "dataset.json"),
        mirror_axes=tuple(int(axis) for axis in state.get("mirror_axes", ())),
        epoch=state.get("epoch"),
    )


def join_shards(folder: Path, optimizer: bool = False) -> StateDict:
    """Assemble the weights of a folder, or the optimiser's state, from all its files.

    Raises:
        UserError: there is no file, or shards are missing, damaged or contradictory.
    """
    shards = [shard for shard in _all_shards(folder) if (OPTIMIZER_SEPARATOR in shard.name) is optimizer]
    shapes = _whole_shapes(folder, shards)
    whole: StateDict = {}
    for file in sorted({shard.file for shard in shards}):
        with safe_open(file, "pt") as content:
            for shard in (shard for shard in shards if shard.file == file):
                block = content.get_tensor(shard.name)
                target = whole.setdefault(shard.name, torch.empty(shapes[shard.name], dtype=block.dtype))
                target[shard.place] = block
    return whole


def require_all_shards(folder: Path) -> None:
    """Check the headers of all files of a checkpoint, without reading the tensors.

    Raises:
        UserError: a file or a shard is missing, damaged or contradictory.
    """
    for name in read_json_object(folder / STATE_NAME).get("files", ()):
        if not (folder / str(name)).is_file():
            raise FileError(f"The checkpoint {folder} is damaged: {name} is missing.")
    _whole_shapes(folder, list(_all_shards(folder)))


def _all_shards(folder: Path) -> Iterator[Shard]:
    """All shards, as listed in the headers of the files."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileError(f"{folder} contains no checkpoint files (*.safetensors).")
    for file in files:
        try:
            with explaining_full_main_memory(str(file)), safe_open(file, "pt") as content:
                offsets = json.loads((content.metadata() or {}).get(OFFSETS_KEY, "{}"))
                for name in content.keys():  # noqa: SIM118 (not a mapping)
                    shape = tuple(content.get_slice(name).get_shape())
                    where = offsets[name]["saved_offsets"] if offsets else [0] * len(shape)
                    yield Shard(file, name, tuple(int(n) for n in where), shape)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"The checkpoint {folder} is damaged ({file.name}: {error}).") from error


def _whole_shapes(folder: Path, shards: Sequence[Shard]) -> dict[str, Shape]:
    """The shape of each tensor. Its shards must fill it, so nothing larger than the files is allocated."""
    by_name: dict[str, list[Shard]] = {}
    for shard in shards:
        by_name.setdefault(shard.name, []).append(shard)
    return {name: _whole_shape(folder, name, of_tensor) for name, of_tensor in by_name.items()}


def _whole_shape(folder: Path, name: str, shards: Sequence[Shard]) -> Shape:
    if _contradict(shards):
        raise FileError(f"{folder}: the parts of {name!r} contradict each other.")
    ends = zip(*([axis.stop for axis in shard.place] for shard in shards), strict=True)
    shape = tuple(max(axis) for axis in ends)
    if sum(math.prod(shard.shape) for shard in shards) != math.prod(shape):
        raise FileError(f"{folder}: parts of {name!r} are missing; does the file of each rank exist?")
    return shape


def _contradict(shards: Sequence[Shard]) -> bool:
    """Whether blocks of one tensor have different numbers of axes or negative offsets."""
    numbers_of_axes = {len(axes) for shard in shards for axes in (shard.offsets, shard.shape)}
    return len(numbers_of_axes) > 1 or any(min(shard.offsets, default=0) < 0 for shard in shards)
