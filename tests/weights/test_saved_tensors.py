"""Tensors are found where torch finds them, without torch."""

import io
import subprocess
import sys
import zipfile
from collections import OrderedDict

import pytest
import torch

from stunet.errors import UserError
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.saved_tensors import ITEM_BYTES, SavedTensor, read_saved
from tests.weights.samples import network, v1_content, v2_content, v2_plans

REAL = [name for name in ITEM_BYTES if name.startswith(("float", "bfloat"))]

FORMATS = pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "pickles"])


def saved(path, content, is_zip=True):
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    return path


@FORMATS
@pytest.mark.parametrize("content", [v1_content, lambda weights: v2_content(weights, v2_plans())], ids=["v1", "v2"])
def test_weights_are_those_that_torch_reads(tmp_path, content, is_zip):
    """torch's own reader is given what nnU-Net stores beside them; `Checkpoint`s rename weights."""
    path = saved(tmp_path / "x.pth", content(network().state_dict()), is_zip)
    expected = torch.load(path, weights_only=False)  # our own file
    expected = expected.get("state_dict", expected.get("network_weights"))
    read = read_checkpoint(path).state_dict
    for ours, theirs in zip(read.values(), expected.values(), strict=True):
        assert torch.equal(ours, theirs) and ours.dtype == theirs.dtype


@FORMATS
def test_views_types_and_parameters_are_those_that_torch_reads(tmp_path, is_zip):
    whole = torch.randn(4, 6, 5)
    weights = OrderedDict(
        transposed=whole.transpose(0, 2),
        part=whole[1:3, ::2],
        single=torch.tensor(2.5),
        none=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(3)),
        **{name: torch.randn(3, 5).to(getattr(torch, name)) for name in REAL},
        count=torch.arange(7),
    )
    path = saved(tmp_path / "x.pth", {"state_dict": weights}, is_zip)
    read = read_checkpoint(path).state_dict
    for name, theirs in torch.load(path, weights_only=True)["state_dict"].items():
        assert torch.equal(read[name], theirs) and read[name].dtype == theirs.dtype, name


def test_sparse_tensors_are_marked(tmp_path):
    path = saved(tmp_path / "x.pth", {"state_dict": {"a": torch.eye(3).to_sparse()}})
    with path.open("rb") as file:
        assert SavedTensor(*read_saved(file, path)["weights"][0][1:]).dtype == "other"


def test_torch_is_not_needed(tmp_path):
    path = saved(tmp_path / "x.pth", {"state_dict": {"a": torch.eye(3)}})
    code = (
        "import pathlib, sys; from stunet.weights.saved_tensors import read_saved; path = pathlib.Path(sys.argv[1]); "
        "print(read_saved(path.open('rb'), path)['weights'], 'torch' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True).stdout
    assert "'a', 'float32'" in printed and printed.endswith("False\n")


def changed(path, change):
    """The archive again, each entry as `change(name, content)` has it, which also says how it is compressed."""
    with zipfile.ZipFile(path) as old:
        entries = {entry.filename: old.read(entry) for entry in old.infolist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in entries.items():
            new.writestr(name, *change(name, content))
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda name, content: (content, zipfile.ZIP_DEFLATED), "is damaged"),
        (lambda name, content: (content[:8] if "/data/" in name else content,), "is damaged"),
        (lambda name, content: (b"big" if "byteorder" in name else content,), "was written on a big-endian machine"),
        (lambda name, content: (content.replace(b"FloatStorage", b"QuixStorage"),), r"would run torch\.QuixStorage"),
    ],
    ids=["compressed", "short storage", "big-endian", "unknown storage"],
)
def test_odd_archives_are_refused(tmp_path, change, reason):
    path = changed(saved(tmp_path / "x.pth", {"state_dict": {"a": torch.eye(3)}}), change)
    with pytest.raises(UserError, match=rf"x\.pth {reason}"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    "fields",
    [
        {"place": 10**9},
        {"place": -4},
        {"storage_bytes": 10**9},
        {"start": 10**6},
        {"start": -1},
        {"shape": (10**6,)},
        {"stride": (-1,)},
        {"stride": (10**6,)},
        {"shape": ("three",)},
    ],
    ids=str,
)
def test_a_tensor_outside_of_the_file_is_refused(tmp_path, monkeypatch, fields):
    """What the other process says is not believed."""
    path = saved(tmp_path / "x.pth", {"a": torch.zeros(3)})
    told = SavedTensor(**{"dtype": "float32", "place": 0, "storage_bytes": 12, "shape": (3,), "stride": (1,), **fields})
    row = ["a", told.dtype, told.place, told.storage_bytes, told.start, told.shape, told.stride]
    monkeypatch.setattr("stunet.weights.checkpoint.read_confined", lambda *_: {"weights": [row]})
    with pytest.raises(UserError, match=r"x\.pth"):
        read_checkpoint(path)


def test_a_pickle_without_an_end_is_refused():
    with pytest.raises(ValueError, match="pickle exhausted"):
        read_saved(io.BytesIO(b"\x80\x02(" + b"(" * 1000), None)
