"""Read the files of `torch.save` without torch and without their tensors: where in the file each tensor lies.

A file is a zip archive with a pickle and one entry for each storage (torch 1.6 and later), or a row of pickles followed
by the storages. In the pickle, a storage is ("storage", type, key, device, number of elements).
"""

import io
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from stunet.errors import FileError
from stunet.plans.plain_pickle import read_plain_pickle

ITEM_BYTES = {
    "float64": 8,
    "float32": 4,
    "float16": 2,
    "bfloat16": 2,
    "complex64": 8,
    "complex128": 16,
    "int64": 8,
    "int32": 4,
    "int16": 2,
    "int8": 1,
    "uint8": 1,
    "bool": 1,
}
"""Bytes of one element of each dtype."""

OTHER = "other"
"""The dtype of tensors that are not dense."""

PROVENANCE = ("trainer_name", "inference_allowed_mirroring_axes", "current_epoch", "epoch")
"""What nnU-Net stores beside the weights, if stunet uses it."""

_STORAGES = {
    "Double": "float64",
    "Float": "float32",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
}

_MAGIC_NUMBER, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
"""At the start of files that are no zip archive."""


@dataclass(frozen=True)
class SavedTensor:
    """A tensor in a file.

    Attributes:
        dtype: a key of `ITEM_BYTES`, or `OTHER`.
        place: first byte of its storage in the file.
        storage_bytes: bytes of its storage.
        start: its first element in the storage.
        shape: its shape.
        stride: elements from one index to the next, along each axis.
    """

    dtype: str
    place: int = 0
    storage_bytes: int = 0
    start: int = 0
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()


@dataclass
class _Storage:
    dtype: str
    numel: int
    place: int = -1

    @property
    def bytes(self) -> int:
        """How many it has."""
        return self.numel * ITEM_BYTES[self.dtype]


@dataclass(frozen=True)
class _Tensor:
    """A tensor whose storage may not have been found yet."""

    storage: _Storage | None = None
    start: int = 0
    shape: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()

    def found(self) -> SavedTensor:
        """Where it lies, now that its storage is known."""
        if self.storage is None:
            return SavedTensor(OTHER)
        if self.storage.place < 0:
            raise ValueError("a storage is missing")
        storage = self.storage
        return SavedTensor(
            storage.dtype, storage.place, storage.bytes, int(self.start), tuple(self.shape), tuple(self.stride)
        )


def read_saved(file: BinaryIO, path: Path) -> dict[str, Any]:
    """Read a checkpoint: the names and fields of its `SavedTensor`s as "weights", and what else nnU-Net stores.

    Raises:
        UserError: it contains no weights, or would run code.
        Exception: anything, if it is damaged.
    """
    content = _read_zip(file, path) if zipfile.is_zipfile(file) else _read_row_of_pickles(file, path)
    if not isinstance(content, dict):
        raise FileError(f"{path} contains a {type(content).__name__}, not a checkpoint.")
    weights = content.get("state_dict", content.get("network_weights", content))
    if not isinstance(weights, Mapping) or not _are_tensors(weights):
        raise FileError(f"{path} contains no weights: neither 'state_dict' (nnU-Net v1) nor 'network_weights' (v2).")
    known = PROVENANCE if "network_weights" not in content else (*PROVENANCE, "init_args")
    return {
        "weights": [[str(name), *astuple(tensor.found())] for name, tensor in weights.items()],
        **{name: content[name] for name in known if name in content and weights is not content},
    }


def _are_tensors(weights: Mapping[Any, Any]) -> bool:
    return bool(weights) and all(isinstance(tensor, _Tensor) for tensor in weights.values())


def _read_zip(file: BinaryIO, path: Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
    pickles = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
    if not pickles:
        raise FileError(f"{path} is a zip archive, not a model: unpack it yourself and give the file inside.")
    folder = pickles[0].rpartition("/")[0]
    if f"{folder}/byteorder" in entries:
        _require_little_endian(_content(file, entries[f"{folder}/byteorder"]) == b"little", path)

    def storage(stored: Any) -> _Storage:
        """A storage, which is an entry of the archive."""
        _, dtype, key, _, numel = stored
        entry = entries[f"{folder}/data/{key}"]
        found = _Storage(dtype, int(numel), _place(file, entry))
        if not 0 <= found.bytes <= entry.file_size:
            raise ValueError(f"storage {key} is too short")
        return found

    return read_plain_pickle(io.BytesIO(_content(file, entries[pickles[0]])), path, _GLOBALS, storage)


def _content(file: BinaryIO, entry: zipfile.ZipInfo) -> bytes:
    file.seek(_place(file, entry))
    return file.read(entry.file_size)


def _place(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """The first byte of an entry's content, behind its name and padding."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
        raise ValueError(f"{entry.filename} is compressed")
    file.seek(entry.header_offset)
    name, padding = struct.unpack("<26x2H", file.read(30))
    return entry.header_offset + 30 + name + padding


def _read_row_of_pickles(file: BinaryIO, path: Path) -> Any:
    file.seek(0)
    if (read_plain_pickle(file, path), read_plain_pickle(file, path)) != (_MAGIC_NUMBER, _PROTOCOL):
        raise ValueError("not a file of torch.save")
    _require_little_endian(read_plain_pickle(file, path)["little_endian"], path)
    storages: dict[str, _Storage] = {}

    def storage(stored: Any) -> _Storage:
        """A storage, whose place is known after the pickle."""
        _, dtype, key, _, numel, view = stored
        if view is not None:
            raise ValueError("storages inside storages")
        return storages.setdefault(key, _Storage(dtype, int(numel)))

    content = read_plain_pickle(file, path, _GLOBALS, storage)
    for key in read_plain_pickle(file, path):
        (numel,) = struct.unpack("<q", file.read(8))
        if numel != storages[key].numel:
            raise ValueError(f"storage {key} has another length")
        storages[key].place = file.tell()
        file.seek(storages[key].bytes, io.SEEK_CUR)
    return content


def _require_little_endian(is_little: bool, path: Path) -> None:
    if not is_little:
        raise FileError(f"{path} was written on a big-endian machine; load and save it with torch there.")


def _tensor(storage: _Storage, start: int, shape: tuple[int, ...], stride: tuple[int, ...], *_: Any) -> _Tensor:
    return _Tensor(storage, start, shape, stride)


def _other_tensor(*_: Any) -> _Tensor:
    return _Tensor()


_GLOBALS: dict[tuple[str, str], Any] = {
    **{("torch", f"{name}Storage"): dtype for name, dtype in _STORAGES.items()},
    **{("torch", name): name for name in ITEM_BYTES},
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *name: ":".join(map(str, name)),
    ("torch.serialization", "_get_layout"): str,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    ("torch._utils", "_rebuild_sparse_tensor"): _other_tensor,
    ("torch._utils", "_rebuild_qtensor"): _other_tensor,
    ("torch._utils", "_rebuild_nested_tensor"): _other_tensor,
    ("torch._utils", "_rebuild_meta_tensor_no_storage"): _other_tensor,
}
