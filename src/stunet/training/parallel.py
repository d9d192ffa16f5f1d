"""Several processes, each with a device, train one network: who they are, how it is spread, what they tell each other.

torchrun starts the processes and tells each who it is. Small networks are copied to every device (DDP); large ones are
cut, and each device holds a part of every stage (FSDP2). With one process all functions here change nothing.
"""

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
"""How a size is spread: weights, gradients and momentum of `large` are 5 GB, of `huge` 17 GB, before any activation."""

LONGEST_WAIT = timedelta(hours=2)
"""One rank may predict a long validation case while the others wait; a rank that dies is noticed by torchrun."""

Number = TypeVar("Number", float, np.ndarray)


@dataclass(frozen=True)
class Process:
    """This process among those that train one network together.

    Attributes:
        device: where it computes.
        rank: its number among all; 0 writes files and speaks.
        world_size: how many there are.
        local_rank: its number on its node, which is the number of its GPU.
        local_world_size: how many there are on its node.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1
    local_rank: int = 0
    local_world_size: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0


def is_first_rank() -> bool:
    """Whether this process is the one that speaks, also before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


def is_started_by_torchrun() -> bool:
    """Whether the variables are there by which torchrun tells a process who it is."""
    return "RANK" in os.environ and "WORLD_SIZE" in os.environ and "MASTER_ADDR" in os.environ


def this_process(device_type: str) -> Process:
    """Who this process is, by the process group that it belongs to; without a group it is alone.

    Args:
        device_type: "cuda", "cpu" or "mps"; a GPU is chosen by the local rank, since ranks go on counting on the
            second node where its GPUs begin at 0 again.
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
    """Join the other processes that torchrun started, and part from them at the end; without torchrun, be alone.

    Tensors on GPUs travel by NCCL, tensors on CPUs by Gloo.

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
        dist.destroy_process_group()


def _require_devices(device_type: str, processes: int) -> None:
    if device_type not in ("cpu", "cuda"):
        raise UserError(f"Several processes train on --device cuda or cpu, not on {device_type!r}.")
    if device_type == "cuda" and torch.cuda.device_count() < processes:
        raise UserError(
            f"{processes} processes were started on this node, and it has {torch.cuda.device_count()} GPUs; "
            "start one for each GPU."
        )


def require_even_shares(batch_size: int, world_size: int, parts: int = 1) -> None:
    """The mean over ranks is the mean over images only where all ranks have as many.

    Args:
        batch_size: images in the batch of all ranks.
        world_size: number of ranks.
        parts: in which each rank cuts its share.

    Raises:
        UserError: a batch that cannot be shared out evenly, or shares of fewer images than parts.
    """
    if batch_size % world_size:
        fitting = -(-batch_size // world_size) * world_size
        raise UserError(
            f"A batch of {batch_size} cannot be shared out evenly over {world_size} processes. Take a batch size that "
            f"{world_size} divides, such as --batch-size {fitting}, or fewer processes."
        )
    if world_size * parts > batch_size:
        raise UserError(
            f"Each of {world_size} processes has {batch_size // world_size} of the batch's {batch_size} images, which "
            f"cannot be cut into {parts} parts (--accumulate)."
        )


# Spreading the network


def distribute(network: nn.Module, process: Process, strategy: Strategy, precision: Precision = "float32") -> nn.Module:
    """Spread a network over the processes, with the weights that it has on rank 0.

    Checkpoint its activations and compile its stages before; make the optimiser after, from the parameters of what is
    returned. The names of the weights stay what they were (see `unwrapped`), and their gradients become the mean over
    the ranks.

    Args:
        network: one of ours, compiled or not, on the process's device; with "fsdp" an STU-Net, which is changed in
            place.
        process: this one; if it is alone, the network is returned as it is.
        strategy: "ddp" or "fsdp".
        precision: of the training; with "fsdp" the weights travel and compute in it.
    """
    if process.world_size == 1:
        return network
    if strategy == "ddp":
        device_ids = [process.device] if process.device.type == "cuda" else None
        # the deepest head has weight 0 in nnU-Net's loss and so never a gradient
        return DistributedDataParallel(
            network, device_ids=device_ids, find_unused_parameters=True, gradient_as_bucket_view=True
        )
    with torch.no_grad():
        for tensor in network.state_dict().values():
            dist.broadcast(tensor, 0)
    return _shard(cast(STUNet, unwrapped(network)), process, precision)


def unwrapped(network: nn.Module) -> Network:
    """The network inside of what `distribute` and `torch.compile` returned; its keys are the published ones."""
    while not isinstance(network, Network):
        network = cast(nn.Module, getattr(network, "_orig_mod", None) or network.module)
    return network


def _shard(network: STUNet, process: Process, precision: Precision) -> STUNet:
    """FSDP2: each stage is gathered before it computes and let go after it; the rest belongs to the root."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload] # FSDP2 takes no other
    mesh, policy = device_mesh(process), mixed_precision(process.device, precision)
    for stage in (*network.encoder.stages, *network.decoder.stages):
        fully_shard(stage, mesh=mesh, mp_policy=policy)
    fully_shard(network, mesh=mesh, mp_policy=policy)
    # a stage ends in a view; the warning fears that someone writes into it, and no layer of ours does
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor", UserWarning)
    return network


def mixed_precision(device: torch.device, precision: Precision) -> MixedPrecisionPolicy:
    """On GPUs the weights travel and compute in the training's precision; gradients are summed in float32.

    On CPUs autocasting alone decides in what a convolution computes.
    """
    if device.type != "cuda" or precision == "float32":
        return MixedPrecisionPolicy()
    return MixedPrecisionPolicy(param_dtype=getattr(torch, precision), reduce_dtype=torch.float32)


def device_mesh(process: Process) -> DeviceMesh:
    """Over which ranks a weight is cut: those of one node, so that the slow wires between nodes carry gradients only.

    One dimension on a single node, or where nodes have one process each; else two: (nodes, processes of a node), with
    a whole copy of the network on each node.
    """
    nodes, rest = divmod(process.world_size, process.local_world_size)
    if rest or 1 in (nodes, process.local_world_size):
        return init_device_mesh(process.device.type, (process.world_size,), mesh_dim_names=("shard",))
    shape = (nodes, process.local_world_size)
    return init_device_mesh(process.device.type, shape, mesh_dim_names=("replicate", "shard"))


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor put together from its parts; all ranks must call it, and each gets the whole."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole_weights(network: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights by name, one whole tensor after the other; all ranks must read to the end.

    Rank 0 alone may keep them: a sharded network need not fit into the others' memory.
    """
    for name, tensor in unwrapped(network).state_dict().items():
        yield name, whole(tensor.detach())


def whole_network(network: nn.Module) -> Network:
    """A copy, with deep supervision, of a network of which each rank holds a part; all ranks must ask for it."""
    copy = twin_of(unwrapped(network), deep_supervision=True)
    copy.load_state_dict(dict(whole_weights(network)), assign=True)
    return copy


def fill(network: nn.Module, weights: Mapping[str, torch.Tensor]) -> None:
    """Give a network that was spread other weights, whole ones, by name; all ranks must call it."""
    with torch.no_grad():
        for name, tensor in unwrapped(network).state_dict().items():
            value = weights[name]
            if isinstance(tensor, DTensor):
                value = distribute_tensor(value.to(tensor.device), tensor.device_mesh, tensor.placements)
            tensor.copy_(value)


# What the ranks tell each other


def mean_over_ranks(value: Number) -> Number:
    """The mean of each rank's number or array, the same on all."""
    return sum_over_ranks(value) / (dist.get_world_size() if _has_peers() else 1)


def sum_over_ranks(value: Number) -> Number:
    """The sum of each rank's number or array (all of one shape), the same on all."""
    if not _has_peers():
        return value
    # on the CPU, where numbers come from, unless nnU-Net's own command opened the group: it has NCCL only
    device = "cpu" if "cpu" in dist.get_backend_config() else "cuda"
    total = torch.tensor(value, dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.cpu().numpy() if isinstance(value, np.ndarray) else cast(Number, total.item())


def is_true_on_any_rank(flag: bool) -> bool:
    """Whether one of the ranks says so; the same answer on all, so that they stop together."""
    return sum_over_ranks(float(flag)) > 0


def items_of_all_ranks(items: Iterable[str]) -> list[str]:
    """The items of rank 0, then those of rank 1, and so on."""
    if not _has_peers():
        return list(items)
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, list(items))
    return [item for of_rank in gathered for item in of_rank]


def wait_for_all_ranks() -> None:
    """Returns when every rank has come here."""
    sum_over_ranks(0.0)


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Rank 0 goes through the block before all others: it makes the files that they then find."""
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
