"""Run a function in several processes that form a group, as torchrun would start them."""

import os
import socket
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

import torch

from stunet.training.parallel import Process, process_group

START = get_context("forkserver")
"""The server imports torch and nnU-Net once, and each rank is a fork of it."""

START.set_forkserver_preload(["torch", "stunet.training.trainers", "tests.training.ranks"])

LONGEST = 120
"""Seconds that a function may take."""


def run_ranks(
    world_size: int, function: Callable, *arguments: Any, local_world_size: int | None = None, device: str = "cpu"
) -> list[Any]:
    """What `function(process, *arguments)` returns on each rank; the first error of a rank is raised here.

    Args:
        world_size: number of processes.
        function: at the top of a module.
        arguments: what can be pickled.
        local_world_size: processes of a node; all of them by default.
        device: "cpu" or "cuda".
    """
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    local = local_world_size or world_size
    processes, ends = [], []
    for rank in range(world_size):
        here, there = START.Pipe()
        who = {"RANK": rank, "WORLD_SIZE": world_size, "LOCAL_RANK": rank % local, "LOCAL_WORLD_SIZE": local}
        variables = address | {name: str(value) for name, value in who.items()}
        homes = {name: value for name, value in os.environ.items() if name.startswith(("STUNET", "nnUNet"))}
        process = START.Process(
            target=_one_rank, args=(there, variables | homes, device, function, arguments), daemon=True
        )
        process.start()
        there.close()
        processes.append(process)
        ends.append(here)
    try:
        return [_received(end, rank) for rank, end in enumerate(ends)]
    finally:
        for process in processes:
            process.kill()
            process.join()


def free_ports(number: int) -> list[int]:
    """Different ports of this machine on which nobody listens."""
    with ExitStack() as stack:
        ports = [stack.enter_context(socket.socket()) for _ in range(number)]
        for port in ports:
            port.bind(("127.0.0.1", 0))
        return [port.getsockname()[1] for port in ports]


def _received(end: Connection, rank: int) -> Any:
    if not end.poll(LONGEST):
        raise TimeoutError(f"rank {rank} has not answered after {LONGEST} s")
    kind, value = end.recv()
    if kind == "error":
        raise AssertionError(f"rank {rank} failed:\n{value}")
    return value


def _one_rank(
    end: Connection, variables: dict[str, str], device: str, function: Callable, arguments: tuple[Any, ...]
) -> None:
    os.environ.update(variables)
    torch.set_num_threads(1)
    try:
        with process_group(device) as process:
            end.send(("result", function(process, *arguments)))
    except BaseException:
        end.send(("error", traceback.format_exc()))


def who(process: Process) -> Process:
    """The simplest function to run."""
    return process
