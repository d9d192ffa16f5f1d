"""Checkpoints as files: whole or not at all, one kept behind the newest, and nothing in them that could run."""

import json
from dataclasses import replace

import pytest
import torch

from stunet.errors import UserError
from stunet.training import checkpoint_folder
from stunet.training.checkpoint_folder import (
    TrainingState,
    load_optimizer_tensors,
    newest,
    optimizer_tensors,
    rolling,
    save,
)

STATE = TrainingState(3, [0.1 + 0.2], 0.7, {"train_losses": [1 / 3, float("nan"), 2.0]}, {"scale": 65536.0}, [0, 2])


def trained_layer(steps=1):
    torch.manual_seed(0)
    layer = torch.nn.Conv3d(2, 3, 3).to(memory_format=torch.channels_last_3d)
    optimizer = torch.optim.SGD(layer.parameters(), 0.1, momentum=0.9)
    for _ in range(steps):
        layer(torch.randn(1, 2, 4, 4, 4)).square().sum().backward()
        optimizer.step()
    return layer, optimizer


def save_layer(folder, state=STATE, steps=1):
    layer, optimizer = trained_layer(steps)
    return save(folder, layer.state_dict(), optimizer_tensors(optimizer, layer), state)


def test_what_is_read_is_what_was_written(tmp_path):
    assert newest(tmp_path) is None
    folder = save_layer(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [
        "optimizer.safetensors",
        "state.json",
        "weights.safetensors",
    ]
    checkpoint = newest(tmp_path)
    assert checkpoint.folder == folder
    assert json.dumps(vars(checkpoint.state)) == json.dumps(vars(STATE))  # to the last bit; NaN differs from itself
    layer, optimizer = trained_layer()
    other, fresh = trained_layer(steps=0)
    checkpoint_folder.load_into(checkpoint, other, fresh)
    assert all(torch.equal(value, layer.state_dict()[key]) for key, value in other.state_dict().items())
    for parameter, expected in zip(other.parameters(), layer.parameters(), strict=True):
        momentum = fresh.state[parameter]["momentum_buffer"]
        assert torch.equal(momentum, optimizer.state[expected]["momentum_buffer"])
        assert momentum.stride() == parameter.stride()


def test_the_one_before_is_kept(tmp_path):
    for epoch in (1, 2, 3):
        save_layer(tmp_path, replace(STATE, epoch=epoch))
    assert checkpoint_folder.read(tmp_path / checkpoint_folder.NEWEST).state.epoch == 3
    assert checkpoint_folder.read(tmp_path / checkpoint_folder.PREVIOUS).state.epoch == 2
    assert len(list(tmp_path.iterdir())) == 2


def test_a_write_that_is_cut_short_costs_nothing(tmp_path):
    save_layer(tmp_path)
    with pytest.raises(KeyboardInterrupt), rolling(tmp_path) as folder:
        (folder / checkpoint_folder.WEIGHTS).write_bytes(b"half")
        raise KeyboardInterrupt
    assert newest(tmp_path).state.epoch == STATE.epoch
    (tmp_path / f".{checkpoint_folder.NEWEST}.1.partial").mkdir()  # a killed process leaves its own behind
    save_layer(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {checkpoint_folder.NEWEST, checkpoint_folder.PREVIOUS}


def test_killed_between_the_two_renames(tmp_path):
    folder = save_layer(tmp_path)
    folder.rename(tmp_path / checkpoint_folder.PREVIOUS)
    assert newest(tmp_path).folder.name == checkpoint_folder.PREVIOUS


@pytest.mark.parametrize("file", [checkpoint_folder.WEIGHTS, checkpoint_folder.OPTIMIZER, checkpoint_folder.STATE])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_one_is_passed_over_for_the_one_before(tmp_path, file, damage):
    for epoch in (1, 2):
        save_layer(tmp_path, replace(STATE, epoch=epoch))

    def harm(folder):
        path = tmp_path / folder / file
        content = path.read_bytes()
        path.unlink()
        if damage == "cut":
            path.write_bytes(content[: len(content) // 2])

    harm(checkpoint_folder.NEWEST)
    assert newest(tmp_path).state.epoch == 1
    harm(checkpoint_folder.PREVIOUS)
    with pytest.raises(UserError, match="stunet_checkpoint is damaged"):
        newest(tmp_path)


def test_another_network(tmp_path):
    save_layer(tmp_path)
    checkpoint = newest(tmp_path)
    other = torch.nn.Conv3d(2, 5, 3)
    optimizer = torch.optim.SGD(other.parameters(), 0.1)
    with pytest.raises(UserError, match="another network"):
        checkpoint_folder.load_into(checkpoint, other, optimizer)
    with pytest.raises(
        UserError, match=r"optimiser belongs to another network: it contains (weight|bias)::momentum_buffer"
    ):
        load_optimizer_tensors(optimizer, other, checkpoint.optimizer)


def test_a_later_version(tmp_path):
    folder = save_layer(tmp_path)
    content = json.loads((folder / checkpoint_folder.STATE).read_text())
    (folder / checkpoint_folder.STATE).write_text(json.dumps({**content, "version": 2}))
    with pytest.raises(UserError, match="has version 2, this stunet reads 1"):
        newest(tmp_path)
