"""Files with randomly changed bytes are either read or refused with a UserError."""

import pickle
import random
from dataclasses import replace

import pytest
import torch

from stunet.errors import UserError
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet
from stunet.plans.nnunet import plans_from, read_v1_plans
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.import_model import import_checkpoints
from stunet.weights.model_file import build_network_from, read_model, save_model
from tests.weights.samples import card, v1_plans, v2_content, v2_plans, write_v1

DAMAGED_COPIES = 30
HEAD_BYTES = 20_000
"""Most changes are in these bytes, which contain headers and pickles."""


def read_any_checkpoint(path):
    checkpoint = read_checkpoint(path)
    import_checkpoints([replace(checkpoint, plans=checkpoint.plans or v1_plans())])


def read_any_model(path):
    state_dict, found = read_model(path)
    build_network_from(found, state_dict)


def read_any_plans(path):
    plans_from(read_v1_plans(path), file=path)


def write(kind, path):
    """A valid file of a network of width 1, 0.25 MB."""
    state_dict = STUNet(1, 3, 1, 1, strides=PUBLISHED_STRIDES).state_dict()
    if kind == "v1":
        write_v1(path, state_dict)
    elif kind == "legacy":
        write_v1(path, state_dict, _use_new_zipfile_serialization=False)
    elif kind == "v2":
        torch.save(v2_content(state_dict, v2_plans()), path)
    elif kind == "ours":
        save_model(path, state_dict, card(width=1))
    else:
        path.write_bytes(pickle.dumps(v1_plans(), 2))


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("v1", read_any_checkpoint),
        ("legacy", read_any_checkpoint),
        ("v2", read_any_checkpoint),
        ("ours", read_any_model),
        ("plans", read_any_plans),
    ],
)
def test_a_damaged_file_is_read_or_refused(tmp_path, kind, read):
    write(kind, tmp_path / "sound")
    read(tmp_path / "sound")
    content = (tmp_path / "sound").read_bytes()
    choose = random.Random(kind)
    refusals = []
    for copy in range(DAMAGED_COPIES):
        damaged = bytearray(content)
        for _ in range(choose.choice((1, 1, 2, 5))):
            end = len(content) if copy % 3 == 0 else min(len(content), HEAD_BYTES)
            damaged[choose.randrange(end)] = choose.randrange(256)
        path = tmp_path / f"damaged_{copy}"  # a new file each time, because the last one may still be memory-mapped
        path.write_bytes(damaged)
        try:
            read(path)
        except UserError as error:
            refusals.append(str(error))
            assert path.name in refusals[-1]
        path.unlink()
    assert refusals, "no damage was noticed: the changes missed all that matters"
