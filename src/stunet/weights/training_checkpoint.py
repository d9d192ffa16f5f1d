"""What `stunet train` writes while it trains, by one process or by many: a folder of safetensors files.

Each of several ranks writes a file with its shards of the tensors; `saved_offsets` in the file's metadata says where a
shard belongs (the format of torch.distributed.checkpoint). One process writes whole tensors, without offsets.
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
from stunet.weights.checkpoint import Checkpoint
from stunet.weights.model_file import Shape, StateDict

OPTIMIZER_SEPARATOR = "::"
"""In the names of what the optimiser keeps, as in "head.weight::momentum_buffer"; no weight has it in its name."""

STATE_NAME = "state.json"
"""Where the training stands, but for its tensors."""

OFFSETS_KEY = "DCP_SHARDING_INFO"
"""Where torch.distributed.checkpoint puts the offsets into a file's metadata."""


@dataclass(frozen=True)
class Shard:
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

    @property
    def place(self) -> tuple[slice, ...]:
        """Where the block belongs in the tensor."""
        return tuple(slice(start, start + size) for start, size in zip(self.offsets, self.shape, strict=True))


def read_training_checkpoint(folder: Path) -> Checkpoint:
    """The weights of a training checkpoint, with the plans of the model folder around it, ready to be imported.

    Args:
        folder: such as `.../STUNetTrainer_large__STUNetPlans_large__3d_fullres/fold_0/stunet_checkpoint`.

    Raises:
        UserError: files that are missing or damaged.
    """
    require_all_shards(folder)
    fold = folder.resolve().parent
    trainer, _, configuration = [*fold.parent.name.split("__"), "", ""][:3]
    state = read_json_object(folder / STATE_NAME)
    return Checkpoint(
        path=folder,
        state_dict=join_shards(folder),
        official_names=False,
        trainer=trainer,
        plans=read_json_object(fold.parent / "plans.json"),
        configuration=configuration,
        dataset=read_json_object(fold.parent / "dataset.json"),
        mirror_axes=tuple(int(axis) for axis in state.get("mirror_axes", ())),
        epoch=state.get("epoch"),
    )


def join_shards(folder: Path, optimizer: bool = False) -> StateDict:
    """The weights of a folder, or what the optimiser keeps, put together from all its files.

    Raises:
        UserError: no file, or shards that are missing, damaged or contradictory.
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
    """Read the headers of all files that belong to a checkpoint and check them, without the tensors.

    Raises:
        UserError: a file or a shard that is missing, damaged or contradictory.
    """
    for name in read_json_object(folder / STATE_NAME).get("files", ()):
        if not (folder / str(name)).is_file():
            raise FileError(f"The checkpoint {folder} is damaged: {name} is missing.")
    _whole_shapes(folder, list(_all_shards(folder)))


def _all_shards(folder: Path) -> Iterator[Shard]:
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
                    yield Shard(file, name, tuple(int(n) for n in where), shape)
        except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
            raise FileError(f"The checkpoint {folder} is damaged ({file.name}: {error}).") from error


def _whole_shapes(folder: Path, shards: Sequence[Shard]) -> dict[str, Shape]:
    """The shape of each tensor, once its shards are known to fill it: nothing larger than the files is allocated."""
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
        raise FileError(f"{folder}: parts of {name!r} are missing; is the file of each rank there?")
    return shape


def _contradict(shards: Sequence[Shard]) -> bool:
    """Whether blocks of one tensor have different numbers of axes, or begin before its first element."""
    numbers_of_axes = {len(axes) for shard in shards for axes in (shard.offsets, shard.shape)}
    return len(numbers_of_axes) > 1 or any(min(shard.offsets, default=0) < 0 for shard in shards)
