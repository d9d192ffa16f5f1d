"""The speed of a training: samples and operations per second, and the fraction of the device's peak."""

import re
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stunet.inference.backends.precision import Precision
from stunet.networks.cost import training_macs
from stunet.networks.network import Network

PASSES = 3
"""A training step costs three forward passes: one forward, and one each for the gradients of activations and
weights."""

OPERATIONS_PER_MAC = 2

PEAK_TFLOPS: dict[str, float] = {
    "B200": 2250,
    "H200": 989,
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "A100": 312,
    "A40": 150,
    "A10": 125,
    "L40S": 362,
    "L40": 181,
    "L4": 121,
    "V100": 125,
    "T4": 65,
    "RTX 4090": 165,
    "RTX 3090": 71,
}
"""Dense bfloat16 or float16 with float32 sums, from the vendors' data sheets. The first name that matches is used."""

SLOWER_VARIANT = re.compile(r"\b(Laptop|Max-Q|Mobile|4090 D)\b")
"""GPUs whose names contain that of a faster one."""

WINDOW = 50
"""Number of steps over which the speed is averaged."""

MEASURED_EDGE = 1024
"""Edge of the matrices whose product is timed if there is no data sheet."""


@dataclass(frozen=True)
class StepReport:
    """One step, for progress displays and logs.

    Attributes:
        step: number of steps since the start of the training, including this one.
        steps: of the whole training.
        epoch: the step's epoch, from 0.
        loss: of the step's batch.
        pseudo_dice: moving average of nnU-Net's pseudo-Dice after the last epoch; None in the first.
        learning_rate: of the heads.
        samples_per_second: over the last steps, all ranks together.
        tflops: 10^12 operations per second of the network, all ranks together.
        peak_fraction: `tflops` over the peak of the devices; None if the peak is unknown.
        seconds_left: until the end of the last epoch, at the average speed so far including validation; None after the
            first step.
    """

    step: int
    steps: int
    epoch: int
    loss: float
    pseudo_dice: float | None
    learning_rate: float
    samples_per_second: float
    tflops: float
    peak_fraction: float | None
    seconds_left: float | None


def tflop_per_sample(network: Network, patch: Sequence[int]) -> float:
    """10^12 operations of a training step for one image of `patch` voxels (Z, Y, X)."""
    return training_macs(network, patch) * OPERATIONS_PER_MAC * PASSES / 1e12


def peak_tflops(device: torch.device, precision: Precision) -> float | None:
    """The peak of a device: of a GPU from its data sheet, of a CPU by timing a matrix product.

    None for other devices, unknown GPUs, and GPUs in float32.
    """
    if device.type == "cuda":
        peak = _data_sheet_tflops(torch.cuda.get_device_name(device))
        return None if precision == "float32" else peak
    return _measured_tflops(getattr(torch, precision)) if device.type == "cpu" else None


def _data_sheet_tflops(name: str) -> float | None:
    """The peak of a GPU by its name; None if the name is unknown or that of a slower variant.

    >>> _data_sheet_tflops("NVIDIA A40"), _data_sheet_tflops("NVIDIA RTX A4000")
    (150, None)
    """
    if SLOWER_VARIANT.search(name):
        return None
    return next((peak for known, peak in PEAK_TFLOPS.items() if re.search(rf"\b{known}\b", name)), None)


def _measured_tflops(dtype: torch.dtype, repetitions: int = 5) -> float:
    """The best of several matrix products on the CPU."""
    a = torch.ones(MEASURED_EDGE, MEASURED_EDGE, dtype=dtype)
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return OPERATIONS_PER_MAC * MEASURED_EDGE**3 / min(seconds) / 1e12


class Speedometer:
    """Times steps: the last ones for the speed, all since the first for the remaining time.

    Args:
        samples: per step, all ranks together.
        tflop: 10^12 operations per step, all ranks together.
        peak: of all devices together, in 10^12 operations per second; None if it is unknown.
    """

    def __init__(self, samples: int, tflop: float, peak: float | None):
        self.samples = samples
        self.tflop = tflop
        self.peak = peak
        self._ends: deque[float] = deque(maxlen=WINDOW)
        self._first_end: float | None = None
        self._steps = 0

    def start_epoch(self) -> None:
        """Exclude the time since the last step, for example validation, from the step times."""
        self._ends.clear()
        self._ends.append(time.perf_counter())

    def end_step(self) -> None:
        """Record the end of a step."""
        now = time.perf_counter()
        self._ends.append(now)
        self._first_end = now if self._first_end is None else self._first_end
        self._steps += 1

    @property
    def steps_per_second(self) -> float:
        """Speed over the last steps; 0 before the first."""
        seconds = self._ends[-1] - self._ends[0] if self._ends else 0.0
        return (len(self._ends) - 1) / seconds if seconds > 0 else 0.0

    def seconds_left(self, steps: int) -> float | None:
        """Time for `steps` more at the speed since the first step; None before the second."""
        if self._first_end is None or self._steps < 2:
            return None
        return steps * (self._ends[-1] - self._first_end) / (self._steps - 1)

    def report(
        self, step: int, steps: int, epoch: int, loss: float, pseudo_dice: float | None, learning_rate: float
    ) -> StepReport:
        """The report of a step, see `StepReport`."""
        tflops = self.tflop * self.steps_per_second
        return StepReport(
            step,
            steps,
            epoch,
            loss,
            pseudo_dice,
            learning_rate,
            samples_per_second=self.samples * self.steps_per_second,
            tflops=tflops,
            peak_fraction=tflops / self.peak if self.peak else None,
            seconds_left=self.seconds_left(steps - step),
        )
