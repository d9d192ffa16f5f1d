"""Train one network in several processes, each with its own device: ranks, distribution, and communication.

torchrun starts the processes and gives each its rank. Small networks are copied to every device (DDP). Large ones are
sharded: each device stores a part of every stage (FSDP2). With a single process, all functions here change nothing.
"""

import ctypes
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal, TypeVar, cast

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from stunet.errors import UserError
from stunet.inference.backends.precision import Precision
from stunet.networks.network import Network, twin_of
from stunet.networks.stunet import STUNet

Strategy = Literal["ddp", "fsdp"]

STRATEGIES: dict[str, Strategy] = {"tiny": "ddp", "small": "ddp", "base": "ddp", "large": "fsdp", "huge": "fsdp"}
"""Default strategy per size. Weights, gradients and momentum take 5 GB for `large` and 17 GB for `huge`, without
activations."""

LONGEST_WAIT = timedelta(hours=2)
"""Timeout of collective calls: one rank may predict a long validation case while the others wait. torchrun detects
ranks that die."""

Number = TypeVar("Number", float, np.ndarray)


@dataclass(frozen=True)
class Process:
    """This process within the group that trains one network.

    Attributes:
        device: where it computes.
        rank: its number among all processes; rank 0 writes files and prints.
        world_size: number of processes.
        local_rank: its number on its node, which is also the number of its GPU.
        local_world_size: number of processes on its node.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0


def is_first_rank() -> bool:
    """Whether this process prints. Also works before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


def is_started_by_torchrun() -> bool:
    """Whether torchrun's variables for the rank of a process are set."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ


def this_process(device_type: str) -> Process:
    """This process, as described by its process group; without a group it is alone.

    Args:
        device_type: "cuda", "cpu" or "mps". The local rank selects the GPU, because ranks keep counting on the second
            node while its GPUs start at 0 again.
    """
    rank, world_size, local_rank, local_world_size = 0, 1, 0, 1
    if dist.is_available() and dist.is_initialized():
        rank, world_size = dist.get_rank(), dist.get_world_size()
        local_rank = int(os.environ.get("LOCAL_RANK", rank))
        local_world_size = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    device = torch.device(device_type, local_rank) if device_type == "cuda" else torch.device(device_type)
    return Process(device, rank, world_size, local_rank, local_world_size)


@contextmanager
def process_group(device_type: str) -> Iterator[Process]:
    """Join the other processes that torchrun started, and leave the group at the end. Without torchrun, run alone.

    GPU tensors are sent by NCCL, CPU tensors by Gloo.

    Raises:
        UserError: a device that only one process can use, or fewer GPUs on this node than processes.
    """
    if not is_started_by_torchrun():
        yield this_process(device_type)
        return
    _require_devices(device_type, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    if device_type == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("cpu:gloo,cuda:nccl" if device_type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    try:
        yield this_process(device_type)
    finally:
        _never_free(dist.group.WORLD)
        dist.destroy_process_group()


def _never_free(group: Any) -> None:
    """Keep a process group until the process ends, although nobody needs it any more.

    Gloo's threads need Python's lock to let go of the tensors that were sent. The group's destructor waits for these
    threads and holds the lock, so the process would hang if it came soon after the last message.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(group))


def _require_devices(device_type: str, processes: int) -> None:
    if device_type not in ("cpu", "cuda"):
        raise UserError(f"Several processes train on --device cuda or cpu, not on {device_type!r}.")
    if device_type == "cuda" and torch.cuda.device_count() < processes:
        raise UserError(
            f"{processes} processes were started on this node, and it has {torch.cuda.device_count()} GPUs; "
            "start one for each GPU."
        )


def require_even_shares(batch_size: int, world_size: int, parts: int = 1) -> None:
    """Require equal shares: only then is the mean over ranks the mean over images.

    Args:
        batch_size: images in the batch of all ranks.
        world_size: number of ranks.
        parts: number of parts into which each rank divides its share.

    Raises:
        UserError: the batch cannot be divided evenly, or shares have fewer images than parts.
    """
    if batch_size % world_size:
        fitting = -(-batch_size // world_size) * world_size
        raise UserError(
            f"A batch of {batch_size} cannot be divided evenly among {world_size} processes. Take a batch size that "
            f"{world_size} divides, such as --batch-size {fitting}, or fewer processes."
        )
    if world_size * parts > batch_size:
        raise UserError(
            f"Each of {world_size} processes has {batch_size // world_size} of the batch's {batch_size} images, which "
            f"cannot be divided into {parts} parts (--accumulate)."
        )


# Distributing the network


def distribute(network: nn.Module, process: Process, strategy: Strategy, precision: Precision = "float32") -> nn.Module:
    """Distribute a network over the processes, starting from the weights of rank 0.

    Checkpoint its activations and compile its stages first. Create the optimiser afterwards, from the parameters of the
    returned network. The weights keep their names (see `unwrapped`), and their gradients become the mean over the
    ranks.

    Args:
        network: one of ours, compiled or not, on the process's device; with "fsdp" an STU-Net, which is changed in
            place.
        process: this process; if it is alone, the network is returned unchanged.
        strategy: "ddp" or "fsdp".
        precision: of the training; with "fsdp" the weights are communicated and used in it.
    """
    if process.world_size == 1:
        return network
    if strategy == "ddp":
        device_ids = [process.device] if process.device.type == "cuda" else None
        # the deepest head has weight 0 in nnU-Net's loss, so it never gets a gradient
        return DistributedDataParallel(
            network, device_ids=device_ids, find_unused_parameters=True, gradient_as_bucket_view=True
        )
    with torch.no_grad():
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)
    return _shard(cast(STUNet, unwrapped(network)), process, precision)


def unwrapped(network: nn.Module) -> Network:
    """The network inside the wrappers of `distribute` and `torch.compile`. Its keys are the published ones."""
    while not isinstance(network, Network):
        network = cast(nn.Module, getattr(network, "_orig_mod", None) or network.module)
    return network


def _shard(network: STUNet, process: Process, precision: Precision) -> STUNet:
    """FSDP2: gather each stage before it computes and release it afterwards. The root holds everything else."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # FSDP2 requires this layout
    mesh, policy = device_mesh(process), mixed_precision(process.device, precision)
    for stage in (*network.encoder.stages, *network.decoder.stages):
        fully_shard(stage, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)
    # a stage returns a view; torch warns in case someone writes into it, but none of our layers do
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    return network


def mixed_precision(device: torch.device, precision: Precision) -> MixedPrecisionPolicy:
    """On GPUs, weights are communicated and used in the training's precision; gradients are summed in float32.

    On CPUs, autocasting alone sets the precision of convolutions.
    """
    if device.type != "cuda" or precision == "float32":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=getattr(torch, precision), reduce_dtype=torch.float32)


def device_mesh(process: Process) -> DeviceMesh:
    """The ranks over which a weight is sharded: those of one node, so that only gradients cross the slow network.

    One dimension on a single node, or with one process per node. Otherwise two, (nodes, processes per node), with a
    whole copy of the network on each node.
    """
    nodes, rest = divmod(process.world_size, process.local_world_size)
    if rest or 1 in (nodes, process.local_world_size):
        return init_device_mesh(process.device.type, (process.world_size,), mesh_dim_names=("shard",))
    shape = (nodes, process.local_world_size)
    return init_device_mesh(process.device.type, shape, mesh_dim_names=("replicate", "shard"))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """Assemble a tensor from its shards. All ranks must call it, and each gets the whole tensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the weights by name, one whole tensor at a time. All ranks must iterate to the end.

    Only rank 0 should keep them: the whole network may not fit into the other ranks' memory.
    """
    for name, tensor in unwrapped(network).state_dict().items():
        yield name, whole(tensor.detach())


def whole_network(network: nn.Module) -> Network:
    """A whole copy, with deep supervision, of a sharded network. All ranks must call it."""
    copy = twin_of(unwrapped(network), deep_supervision=True)
    copy.load_state_dict(dict(whole_weights(network)), assign=True)
    return copy


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Load whole weights, by name, into a distributed network. All ranks must call it."""
    with torch.no_grad():
        for name, tensor in unwrapped(network).state_dict().items():
            value = weights[name]
            if isinstance(tensor, DTensor):
                value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
            tensor.copy_(value)


# Communication


def mean_over_ranks(value: Number) -> Number:
    """The mean of a number or array over the ranks, the same on all."""
    return sum_over_ranks(value) / (dist.get_world_size() if _has_peers() else 1)


def sum_over_ranks(value: Number) -> Number:
    """The sum of a number or array (of one shape) over the ranks, the same on all."""
    if not _has_peers():
        return value
    # on the CPU, where the numbers are, unless nnU-Net's own command opened the group, which then has NCCL only
    device = "cpu" if "cpu" in dist.get_backend_config() else "cuda"
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.cpu().numpy() if isinstance(value, np.ndarray) else cast(Number, total.item())


def is_true_on_any_rank(flag: bool) -> bool:
    """Whether the flag is set on any rank. All ranks get the same answer, so they stop together."""
    return sum_over_ranks(float(flag)) > 0


def items_of_all_ranks(items: Iterable[str]) -> list[str]:
    """The items of rank 0, then those of rank 1, and so on."""
    if not _has_peers():
        return list(items)
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, list(items))
    return [item for of_rank in gathered for item in of_rank]


def wait_for_all_ranks() -> None:
    """Return when all ranks have arrived here."""
    sum_over_ranks(0.0)


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Let rank 0 run the block first, so that the others find the files it creates."""
    is_first = not _has_peers() or dist.get_rank() == 0
    if not is_first:
        wait_for_all_ranks()
    try:
        yield
    finally:
        if is_first:
            wait_for_all_ranks()


def _has_peers() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
