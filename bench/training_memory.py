"""Compare measured peak memory of a training step to the estimate of `stunet models --fit`. The limit is 15 %.

Each row is a separate process that takes two steps (so that momentum exists): forward pass, nnU-Net's loss with deep
supervision, backward pass, clipping, SGD with Nesterov momentum. On a CPU, the peak is VmHWM minus the memory before
the network was built; by then the process had taken a step of a small network, which loads kernels. glibc's malloc is
set to return freed memory at once (MALLOC_MMAP_THRESHOLD_); otherwise the peak would include unused memory. On a GPU,
the peak is torch's `max_memory_allocated`, with the allocator's reserved memory next to it. With --ranks, that many
processes share the step by FSDP2 (Gloo on CPUs), each with its own batch; the first one's memory is shown.

    python bench/training_memory.py --sizes small base large --patch 64 64 64 --batch 1 --classes 105
    python bench/training_memory.py --sizes huge --precisions float32 --checkpointed only   # 20 GB
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard

from stunet.inference.backends.precision import Precision
from stunet.networks.registry import network_spec
from stunet.networks.stunet import SIZES, STUNet
from stunet.training.memory_walk import Patch, TrainingStep, optimizer_of, prepared_network, run_step
from stunet.training.training_memory import training_memory

STEPS = 2
WARM_UP_PATCH: Patch = (64, 64, 64)
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
CHECKPOINTED = {"no": (False,), "only": (True,), "both": (False, True)}


@dataclass(frozen=True)
class Row:
    """What a child process measures: a `TrainingStep` as plain values."""

    size: str
    precision: str
    checkpointed: bool
    patch: list[int]
    batch_size: int
    classes: int
    device: str
    threads: int
    ranks: int

    @property
    def step(self) -> TrainingStep:
        """The step."""
        config = network_spec(self.size, 1, self.classes)
        patch, precision = cast(Patch, tuple(self.patch)), cast(Precision, self.precision)
        return TrainingStep(config, patch, self.batch_size, precision, self.checkpointed, self.ranks)


def main() -> None:
    """Measure each row in a child process, and print it at once."""
    arguments = parsed_arguments()
    if arguments.measure is not None:
        measure(Row(**json.loads(arguments.measure)))
        return
    print(f"{platform.machine()}, {arguments.threads} threads, torch {torch.__version__}, {arguments.device}")
    patch = "x".join(map(str, arguments.patch))
    print(f"{arguments.ranks} rank(s), batch {arguments.batch}, patch {patch}, {arguments.classes} classes\n")
    print("| size | precision | checkpointed | imports, GB | predicted, GB | measured, GB | s a step | ratio |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for row in rows(arguments):
        print(line(row, in_child(row)), flush=True)


def parsed_arguments() -> argparse.Namespace:
    """The options; `--measure` is for the child process only."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=["small", "base", "large"])
    parser.add_argument("--precisions", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--checkpointed", choices=CHECKPOINTED, default="both")
    parser.add_argument("--patch", nargs=3, type=int, default=[64, 64, 64])
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--classes", type=int, default=105)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--ranks", type=int, default=1)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    return parser.parse_args()


def rows(asked: argparse.Namespace) -> list[Row]:
    """All combinations."""
    return [
        Row(
            size,
            precision,
            checkpointed,
            asked.patch,
            asked.batch,
            asked.classes,
            asked.device,
            asked.threads,
            asked.ranks,
        )
        for size in asked.sizes
        for precision in asked.precisions
        for checkpointed in CHECKPOINTED[asked.checkpointed]
    ]


def in_child(row: Row) -> dict[str, Any]:
    """The output of the child process, or of the first of several."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(row.ranks)]
    command = [sys.executable, *(torchrun if row.ranks > 1 else []), __file__, "--measure", json.dumps(asdict(row))]
    child = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **MALLOC})
    return json.loads(child.stdout.splitlines()[-1])


def line(row: Row, found: dict[str, Any]) -> str:
    """One row of the table."""
    predicted = training_memory(row.step).peak
    reserved = f" ({found['reserved'] / 1e9:.2f} reserved)" if found["reserved"] else ""
    return (
        f"| {row.size} | {row.precision} | {'yes' if row.checkpointed else 'no'} | {found['before'] / 1e9:.2f} "
        f"| {predicted / 1e9:.2f} | {found['peak'] / 1e9:.2f}{reserved} | {found['seconds']:.1f} "
        f"| {found['peak'] / predicted:.3f} |"
    )


def measure(row: Row) -> None:
    """Print the measurements. With several ranks, only the first prints."""
    if row.ranks > 1:
        dist.init_process_group("nccl" if row.device == "cuda" else "gloo")
    found = measured(row)
    if row.ranks == 1:
        print(json.dumps(found))
        return
    if dist.get_rank() == 0:
        print(json.dumps(found), flush=True)
    dist.destroy_process_group()


def measured(row: Row) -> dict[str, float]:
    """Bytes before and at the peak, and seconds of the last step, of this process."""
    torch.set_num_threads(row.threads)
    torch.manual_seed(0)
    warm_up = TrainingStep(
        network_spec("tiny", 1, 3), WARM_UP_PATCH, 1, row.step.precision, row.checkpointed, row.ranks
    )
    take_steps(warm_up, row.device)
    before = status_bytes("VmRSS")
    forget_peak(row.device)
    seconds = take_steps(row.step, row.device)
    if row.device == "cuda":
        peak, reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        return {"before": before, "peak": peak, "reserved": reserved, "seconds": seconds}
    return {"before": before, "peak": status_bytes("VmHWM") - before, "reserved": 0, "seconds": seconds}


def take_steps(step: TrainingStep, device: str) -> float:
    """Build the network and train it. Returns the seconds of the last step."""
    with torch.device(device):
        network = prepared_network(step)
    if step.ranks > 1:
        shard(network)
    optimizer = optimizer_of(network)
    for _ in range(STEPS):
        start = time.perf_counter()
        run_step(network, optimizer, step)
        if device == "cuda":
            torch.cuda.synchronize()
    return time.perf_counter() - start


def shard(network: STUNet) -> None:
    """FSDP2, stage by stage. It requires the contiguous layout."""
    network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    for stage in (*network.encoder.stages, *network.decoder.stages):
        fully_shard(stage)
    fully_shard(network)


def forget_peak(device: str) -> None:
    """Reset the peak."""
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5")


def status_bytes(key: str) -> int:
    """A value from this process's status (Linux)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(text.split()[1]) * 1024 for text in lines if text.startswith(key))


if __name__ == "__main__":
    main()
