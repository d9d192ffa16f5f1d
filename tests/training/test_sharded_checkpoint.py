"""Checkpoints that several ranks wrote, read by other numbers of ranks, by none, and by nobody who could be harmed."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.training.checkpoint_folder import TrainingCheckpoint, optimizer_tensors
from stunet.training.parallel import Process, distribute, unwrapped, whole
from stunet.training.sharded_checkpoint import load_into, read_shards, shapes_in, write_shards
from stunet.weights.training_checkpoint import join_shards
from tests.training.ranks import run_ranks
from tests.training.test_parallel import batch_of_step, nnunet_loss, small_network


def trained(process: Process, strategy: str):
    """A network and its optimiser after two steps."""
    network = distribute(small_network(), process, strategy)
    optimizer = torch.optim.SGD(network.parameters(), 0.01, momentum=0.99, nesterov=True)
    loss_of = nnunet_loss(False, None)
    for step in range(2):
        image, targets = batch_of_step(step, False)
        optimizer.zero_grad()
        loss_of(network(image), targets).backward()
        optimizer.step()
    return unwrapped(network), optimizer


def tensors_of(network, optimizer) -> dict[str, torch.Tensor]:
    momentum = {
        f"{name}::momentum_buffer": optimizer.state[p]["momentum_buffer"]
        for name, p in network.named_parameters()
        if p in optimizer.state
    }
    return {**network.state_dict(), **momentum}


def in_numpy(tensors) -> dict[str, np.ndarray]:
    return {name: whole(tensor.detach()).numpy() for name, tensor in tensors.items()}


def write(process: Process, folder: str, strategy: str):
    tensors = tensors_of(*trained(process, strategy))
    write_shards(Path(folder), tensors)
    return in_numpy(tensors)


def read(process: Process, folder: str, strategy: str):
    network = unwrapped(distribute(small_network(seed=7), process, strategy))
    tensors = dict(network.state_dict())
    for name, parameter in network.named_parameters():
        if "seg_layers.0" not in name:  # never had a gradient, so has no momentum
            tensors[f"{name}::momentum_buffer"] = torch.zeros_like(parameter)
    read_shards(Path(folder), tensors)
    return in_numpy({**network.state_dict(), **{n: t for n, t in tensors.items() if "::" in n}})


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that two ranks of FSDP wrote, and what they had."""
    folder = tmp_path_factory.mktemp("shards")
    expected, same = run_ranks(2, write, str(folder), "fsdp")
    assert_equal(same, expected)
    return folder, expected


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, value in expected.items():
        assert np.array_equal(found[name], value), name


@pytest.mark.parametrize(("ranks", "strategy"), [(1, "fsdp"), (2, "ddp"), (4, "fsdp")])
def test_two_ranks_write_and_another_number_reads(written, ranks, strategy):
    folder, expected = written
    for found in run_ranks(ranks, read, str(folder), strategy):
        assert_equal(found, expected)


def test_no_ranks_are_needed_to_read(written):
    folder, expected = written
    parts = {**join_shards(folder), **join_shards(folder, optimizer=True)}
    assert len(list(folder.glob("*.safetensors"))) == 2
    assert_equal({name: parts[name].numpy() for name in expected}, expected)
    assert shapes_in(folder) == {name: value.shape for name, value in expected.items()}


def test_what_copies_wrote_is_read_by_parts(tmp_path):
    expected, _ = run_ranks(2, write, str(tmp_path), "ddp")
    for found in run_ranks(2, read, str(tmp_path), "fsdp"):
        assert_equal(found, expected)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path("harm"),)


def test_a_pickle_in_the_folder_is_not_opened(written, tmp_path, monkeypatch):
    """torch.distributed.checkpoint's usual storage would load `.metadata`, a pickle."""
    folder, expected = written
    monkeypatch.chdir(tmp_path)
    (folder / ".metadata").write_bytes(pickle.dumps(Harmful()))
    try:
        network = small_network()
        read_shards(folder, network.state_dict())
        join_shards(folder)
    finally:
        (folder / ".metadata").unlink()
    assert not (tmp_path / "harm").exists()
    assert all(np.array_equal(value.numpy(), expected[name]) for name, value in network.state_dict().items())


def test_parts_that_are_missing_or_of_another_network(written, tmp_path):
    folder, _ = written
    first, second = sorted(folder.glob("*.safetensors"))
    (tmp_path / second.name).symlink_to(second)
    with pytest.raises(UserError, match=r"parts of .* are missing"):
        join_shards(tmp_path)
    (tmp_path / second.name).unlink()
    (tmp_path / first.name).symlink_to(first)
    with pytest.raises(UserError, match="of another network"):
        read_shards(tmp_path, small_network().state_dict())
    (tmp_path / second.name).write_bytes(second.read_bytes()[:1000])
    for reading in (join_shards, shapes_in):
        with pytest.raises(UserError, match="damaged"):
            reading(tmp_path)
    for reading in (join_shards, shapes_in):
        with pytest.raises(UserError, match="contains no checkpoint files"):
            reading(tmp_path / "nowhere")


def test_offsets_that_would_need_more_memory_than_the_files_hold(tmp_path):
    from safetensors.torch import save_file

    offsets = json.dumps({"weight": {"saved_offsets": [10**12, 0]}})
    save_file({"weight": torch.zeros(2, 2)}, tmp_path / "shard.safetensors", {"DCP_SHARDING_INFO": offsets})
    with pytest.raises(UserError, match="are missing"):
        join_shards(tmp_path)


def test_adamws_count_of_steps_is_one_number(tmp_path):
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters())
    loss_of, (image, targets) = nnunet_loss(False, None), batch_of_step(0, False)
    for _ in range(2):
        loss_of(network(image), targets).backward()
        optimizer.step()
    write_shards(tmp_path, {**network.state_dict(), **optimizer_tensors(optimizer, network)})
    other = small_network(seed=7)
    again = torch.optim.AdamW(other.parameters())
    load_into(TrainingCheckpoint(tmp_path, None), other, again)
    kept, given_back = optimizer.state_dict()["state"], again.state_dict()["state"]
    assert {float(state["step"]) for state in given_back.values()} == {2.0}
    for number, state in kept.items():
        assert all(torch.equal(state[key], given_back[number][key]) for key in state)
