"""Several processes on one CPU (Gloo) against a single one: the same losses, the same weights."""

import os
import time
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from torch.nn.parallel import DistributedDataParallel

from stunet.errors import UserError
from stunet.networks.stunet import STUNet
from stunet.training.activation_checkpointing import checkpoint_activations
from stunet.training.loss import spread_over_ranks, weigh_classes
from stunet.training.parallel import (
    Process,
    device_mesh,
    distribute,
    fill,
    first_rank_first,
    is_true_on_any_rank,
    mean_over_ranks,
    process_group,
    require_even_shares,
    sum_over_ranks,
    this_process,
    unwrapped,
    whole,
    whole_weights,
)
from tests.training.ranks import LONGEST, START, free_ports, run_ranks

BATCH, STEPS, PATCH, IGNORED = 4, 20, 16, 3
RATE = 0.01
Weights = tuple[float, ...] | None
LOSSES = [(False, None), (True, None), (False, IGNORED), (False, IGNORED, (0.25, 1.0, 4.0))]
"""Dice of the whole batch or not, the ignored label, and the weights of the classes."""
STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1))
SCALES = (1, 2, 4, 4, 4)


def small_network(seed: int = 0) -> STUNet:
    torch.manual_seed(seed)
    return STUNet(1, 3, width=4, strides=STRIDES, deep_supervision=True).apply(STUNet.initialize)


def nnunet_loss(batch_dice: bool, ignore_label: int | None, weights: Weights = None) -> torch.nn.Module:
    """Made by nnU-Net's trainer for one GPU."""
    trainer = SimpleNamespace(
        label_manager=SimpleNamespace(has_regions=False, ignore_label=ignore_label),
        configuration_manager=SimpleNamespace(batch_dice=batch_dice),
        is_ddp=False,
        enable_deep_supervision=True,
        _do_i_compile=lambda: False,
        _get_deep_supervision_scales=lambda: SCALES,
    )
    loss = nnUNetTrainer._build_loss(trainer)
    if weights is not None:
        weigh_classes(loss, weights, 3, torch.device("cpu"))
    return loss


def batch_of_step(step: int, has_ignored: bool) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Noise over blocks of three classes; the later an image in the batch, the more of it is ignored."""
    generator = torch.Generator().manual_seed(step)
    coarse = torch.randint(0, 3, (BATCH, 1, 4, 4, 4), generator=generator)
    label = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3).repeat_interleave(4, 4)
    image = label + torch.randn(BATCH, 1, PATCH, PATCH, PATCH, generator=generator)
    if has_ignored:
        for i in range(BATCH):
            label[i, :, : 4 * i] = IGNORED
    return image, [label[:, :, ::scale, ::scale, ::scale].short() for scale in SCALES]


def loss_curve(
    process: Process,
    strategy: str,
    batch_dice: bool,
    ignore_label: int | None,
    weights: tuple[float, ...] | None = None,
    steps: int = STEPS,
    scale: float = 1.0,
):
    """Losses, gradient norms and final weights of some steps as the trainer makes them, with two learning rates.

    All images are multiplied by `scale`.
    """
    network = distribute(small_network(process.rank), process, strategy)
    loss_of = nnunet_loss(batch_dice, ignore_label, weights)
    if process.world_size > 1:
        spread_over_ranks(loss_of)
    named = list(unwrapped(network).named_parameters())
    groups = [
        {"params": [p for name, p in named if ("seg_layers" in name) is is_head], "lr": lr}
        for is_head, lr in ((True, RATE), (False, RATE / 10))
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.99, nesterov=True, weight_decay=1e-3)
    share = BATCH // process.world_size
    mine = slice(process.rank * share, (process.rank + 1) * share)
    curve = []
    for step in range(steps):
        image, targets = batch_of_step(step, ignore_label is not None)
        optimizer.zero_grad()
        loss = loss_of(network(scale * image[mine]), [target[mine] for target in targets])
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        optimizer.step()
        norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
        curve.append((mean_over_ranks(float(loss.detach())), float(norm)))
    return np.array(curve), {name: tensor.clone().numpy() for name, tensor in whole_weights(network)}


def exact_curve(
    process: Process,
    strategy: str,
    batch_dice: bool,
    ignore_label: int | None,
    weights: tuple[float, ...] | None = None,
):
    """In float64: in float32 rounding lets a value cross LeakyReLU's kink here and there, and the curves part.

    On an AVX-512 CPU one process with one thread was 2.7e-5 away from itself with two. (nnU-Net's Dice sums stay in
    float32, but for each image alone.)
    """
    torch.set_default_dtype(torch.float64)
    try:
        return loss_curve(process, strategy, batch_dice, ignore_label, weights)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def alone():
    """The exact curve of one process, made once for each loss."""
    return cache(partial(exact_curve, Process(torch.device("cpu")), "ddp"))


def largest_difference(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    assert list(found) == list(expected)
    return max(np.abs(found[name] - value).max() for name, value in expected.items())


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("loss", LOSSES, ids=["image", "batch", "ignore", "weights"])
def test_two_ranks_have_the_curve_of_one(alone, strategy, loss):
    expected, weights = alone(*loss)
    for found, found_weights in run_ranks(2, exact_curve, strategy, *loss):
        difference = np.abs(found[:, 0] - expected[:, 0]).max()
        largest = largest_difference(found_weights, weights)
        print(f"{strategy}: losses differ by {difference:.1e} at most in {STEPS} steps, weights by {largest:.1e}")
        assert difference < 1e-6
        np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-6)
        assert largest < 1e-7
    assert expected[-1, 0] < expected[0, 0] - 0.1


@pytest.fixture(scope="module")
def rounded():
    """The float32 curve of one process, and how far rounding moves its norms and weights; made once for each loss."""
    return cache(_curve_and_its_rounding)


def _curve_and_its_rounding(*loss):
    """How far the curve moves if the images change in their last bit: where a value crosses LeakyReLU's kink, much."""
    one = partial(loss_curve, Process(torch.device("cpu")), "ddp", *loss)
    curve, weights = one()
    moved = [one(scale=1 + bits * 2.0**-23) for bits in (1, -1)]
    of_norms = max(np.abs(other[:, 1] - curve[:, 1]).max() for other, _ in moved)
    of_weights = max(largest_difference(other, weights) for _, other in moved)
    return curve, weights, of_norms, of_weights


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("loss", LOSSES, ids=["image", "batch", "ignore", "weights"])
def test_in_float32_they_differ_by_rounding(rounded, strategy, loss):
    """Which grows from step to step; at the first it has not grown."""
    expected, weights, of_norms, of_weights = rounded(*loss)
    for found, found_weights in run_ranks(2, loss_curve, strategy, *loss):
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)
        np.testing.assert_allclose(found[:, 1], expected[:, 1], rtol=1e-3, atol=2 * of_norms)
        assert largest_difference(found_weights, weights) < max(1e-4, 2 * of_weights)


def weights_without_gradient(process: Process, strategy: str) -> list[str]:
    network = distribute(small_network(), process, strategy)
    image, targets = batch_of_step(0, False)
    nnunet_loss(False, None)(network(image), targets).backward()
    return [name for name, p in unwrapped(network).named_parameters() if p.grad is None]


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_the_deepest_head_stays_without_gradient_as_on_one_rank(strategy):
    """nnU-Net's loss has weight 0 for it, so SGD must not decay it either."""
    deepest = ["decoder.seg_layers.0.weight", "decoder.seg_layers.0.bias"]
    assert weights_without_gradient(Process(torch.device("cpu")), strategy) == deepest
    assert run_ranks(2, weights_without_gradient, strategy) == [deepest] * 2


def nodes_and_shards(process: Process):
    """What the mesh is, what this rank holds of the network, and its exact curve."""
    mesh = device_mesh(process)
    network = distribute(small_network(), process, "fsdp")
    held = sum(parameter.to_local().numel() for parameter in network.parameters())
    return tuple(mesh.shape), mesh.mesh_dim_names, held, exact_curve(process, "fsdp", True, IGNORED)[0]


def test_on_two_nodes_each_holds_a_whole_network_cut_over_its_ranks(alone):
    expected, _ = alone(True, IGNORED)
    shapes, names, held, curves = zip(*run_ranks(4, nodes_and_shards, local_world_size=2), strict=True)
    assert set(shapes) == {(2, 2)}
    assert set(names) == {("replicate", "shard")}
    assert held[0] + held[1] == held[2] + held[3] == sum(p.numel() for p in small_network().parameters())
    np.testing.assert_allclose(curves[3][:, 1], expected[:, 1], rtol=1e-6)


def shared_numbers(process: Process, folder: str):
    if not process.is_first:
        time.sleep(0.2)
    with first_rank_first():
        seen = sorted(path.name for path in Path(folder).iterdir())
        (Path(folder) / str(process.rank)).touch()
    return (
        seen,
        mean_over_ranks(float(process.rank)),
        sum_over_ranks(np.array([process.rank, 1])).tolist(),
        is_true_on_any_rank(process.rank == 2),
        is_true_on_any_rank(False),
    )


def test_what_ranks_tell_each_other(tmp_path):
    results = run_ranks(3, shared_numbers, str(tmp_path))
    assert results[0][0] == []
    assert all("0" in seen for seen, *_ in results[1:])
    assert [rest for _, *rest in results] == [[1.0, [3.0, 3.0], True, False]] * 3


def test_one_process_alone_needs_no_group():
    with process_group("cpu") as process:
        assert process == Process(torch.device("cpu"))
        assert (mean_over_ranks(2.5), is_true_on_any_rank(True)) == (2.5, True)
        network = small_network()
        assert distribute(network, process, "fsdp") is network


def itself(process: Process) -> Process:
    return process


def test_a_gpu_is_chosen_by_its_number_on_the_node(monkeypatch):
    """nnU-Net takes the rank among all nodes, which on the second node names a GPU that is not there."""
    found = run_ranks(4, itself, local_world_size=2)
    assert [(p.rank, p.local_rank, p.world_size, p.local_world_size) for p in found] == [
        (0, 0, 4, 2), (1, 1, 4, 2), (2, 0, 4, 2), (3, 1, 4, 2),
    ]  # fmt: skip
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_rank", lambda: 3)
    monkeypatch.setattr(dist, "get_world_size", lambda: 4)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert this_process("cuda").device == torch.device("cuda", 1)


def test_a_batch_that_cannot_be_shared_out_evenly_is_refused():
    require_even_shares(4, 2)
    with pytest.raises(UserError, match=r"batch of 2 .* 4 processes.*--batch-size 4"):
        require_even_shares(2, 4)


@pytest.mark.parametrize(("device", "sentence"), [("mps", "cuda or cpu, not on 'mps'"), ("cuda", "has 0 GPUs")])
def test_devices_that_several_processes_cannot_use(monkeypatch, device, sentence):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "x"), ("LOCAL_WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    with pytest.raises(UserError, match=sentence), process_group(device):
        pass


def checkpointed_gradients(process: Process, strategy: str, is_checkpointed: bool):
    network = small_network()
    if is_checkpointed:
        checkpoint_activations(network)
    network = distribute(network, process, strategy)
    image, targets = batch_of_step(0, False)
    nnunet_loss(False, None)(network(image), targets).backward()
    return {n: whole(p.grad).numpy() for n, p in unwrapped(network).named_parameters() if p.grad is not None}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_checkpointed_activations_leave_the_gradients_as_they_are(strategy):
    plain, checkpointed = (run_ranks(2, checkpointed_gradients, strategy, flag)[0] for flag in (False, True))
    assert list(plain) == list(checkpointed)
    for name, gradient in plain.items():
        np.testing.assert_allclose(checkpointed[name], gradient, rtol=1e-5, atol=1e-6)


def filled(process: Process, strategy: str):
    network = distribute(small_network(), process, strategy)
    fill(network, small_network(seed=3).state_dict())
    return {name: tensor.numpy().copy() for name, tensor in whole_weights(network)}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_a_network_that_was_spread_takes_other_weights(strategy):
    """As a fine-tuning starts."""
    expected = small_network(seed=3).state_dict()
    for found in run_ranks(2, filled, strategy):
        assert all(np.array_equal(found[name], value.numpy()) for name, value in expected.items())


def leave_groups_with_an_error(rank: int, ports: list[int]) -> None:
    """Two ranks. With each port, train three steps in a new group, and leave it by an error that holds the network."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    for port in ports:
        os.environ["MASTER_PORT"] = str(port)
        try:
            with process_group("cpu"):
                network = DistributedDataParallel(torch.nn.Linear(10, 10))
                for _ in range(3):
                    network(torch.ones(2, 10)).sum().backward()
                dist.all_reduce(torch.ones(1))
                raise InterruptedError
        except InterruptedError:
            pass
        del network


def test_a_group_left_by_an_error_lets_its_processes_end():
    """Gloo's threads and the group's destructor waited for each other, mostly in the first two of these groups."""
    ports = free_ports(8)
    ranks = [START.Process(target=leave_groups_with_an_error, args=(rank, ports), daemon=True) for rank in range(2)]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(LONGEST)
    ends = [rank.exitcode for rank in ranks]
    for rank in ranks:
        rank.kill()
    assert ends == [0, 0]
