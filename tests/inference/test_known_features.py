import errno
import tempfile
from types import SimpleNamespace

import pytest
import torch

from stunet.inference import known_features
from stunet.inference.known_features import KnownFeatures


def some_features(dtype=torch.float32):
    return torch.randn(3, 4, 5, 2, generator=torch.Generator().manual_seed(0)).to(dtype)


SIZE = some_features().numel() * 4
"""Bytes of the features of one window."""


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_features_are_copied_bit_for_bit(dtype):
    known, features = KnownFeatures(), some_features(dtype)
    expected = features.clone()
    known.keep((1, 2, 3), features)
    features.zero_()  # backends overwrite their results
    taken = known.take((1, 2, 3))
    assert taken.dtype == dtype and torch.equal(taken, expected)


def test_what_was_taken_is_not_kept():
    known = KnownFeatures()
    known.keep((0, 0, 0), some_features())
    known.take((0, 0, 0))
    assert (0, 0, 0) not in known
    with pytest.raises(KeyError):
        known.take((0, 0, 0))


def test_no_more_than_the_limit_is_kept():
    known = KnownFeatures(most_bytes=2 * SIZE)
    for z in range(3):
        known.keep((z, 0, 0), some_features())
    assert [(z, 0, 0) in known for z in range(3)] == [True, True, False]


def keeps_one_of_two():
    known = KnownFeatures()
    for z in range(2):
        known.keep((z, 0, 0), some_features())
    return (0, 0, 0) in known and (1, 0, 0) not in known


def test_a_machine_with_little_memory_keeps_less(monkeypatch):
    monkeypatch.setattr(known_features, "memory_limit", lambda: 4 * SIZE)
    assert keeps_one_of_two()


def test_half_of_the_disk_stays_free(monkeypatch):
    monkeypatch.setattr(known_features.shutil, "disk_usage", lambda folder: SimpleNamespace(free=2 * SIZE))
    assert keeps_one_of_two()


@pytest.mark.parametrize(("module", "name"), [(known_features, "zeros_in"), (tempfile, "gettempdir")])
def test_no_space_or_no_folder_is_no_error(monkeypatch, module, name):
    def fails(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, name, fails)
    known = KnownFeatures()
    known.keep((0, 0, 0), some_features())
    assert (0, 0, 0) not in known
