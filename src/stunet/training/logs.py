"""Training logs: JSON lines, TensorBoard, and nnU-Net's own log.

Each class has the interface of nnU-Net's loggers (one value per epoch) and also takes the report of each step.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from nnunetv2.training.logging.nnunet_logger import MetaLogger

from stunet.extras import from_extra
from stunet.files import replacing
from stunet.training.throughput import StepReport

LOG_NAME = "stunet_log.jsonl"

TENSORBOARD_FOLDER = "tensorboard"

STEPS_BETWEEN_LINES = 10
"""Log every tenth step only: a training has 250,000 steps or more."""

LAST_OF_EPOCH = "epoch_end_timestamps"
"""The last value that nnU-Net logs in an epoch."""


def plain(value: Any) -> Any:
    """Convert NumPy numbers to Python numbers, which JSON stores exactly."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


class TrainingLog(MetaLogger):
    """nnU-Net's log with a float64 moving average, so that it continues unchanged after saving and loading."""

    def log(self, key: str, value: Any, step: int) -> None:
        """Log a value of an epoch."""
        super().log(key, plain(value), step)

    def log_step(self, report: StepReport) -> None:
        """Pass the first step and every `STEPS_BETWEEN_LINES`-th step to the loggers that record steps."""
        if report.step != 1 and report.step % STEPS_BETWEEN_LINES:
            return
        for logger in self.loggers:
            if isinstance(logger, JsonLines | TensorBoard):
                logger.log_step(report)


class JsonLines:
    """`stunet_log.jsonl`: a line for every tenth step, each epoch, and each score of the final validation.

    Args:
        folder: of the run.
        steps_done: lines of later steps, from an interrupted run, are dropped.
        epochs_done: likewise for epochs.
    """

    def __init__(self, folder: Path, steps_done: int = 0, epochs_done: int = 0):
        self._file = folder / LOG_NAME
        self._epoch: dict[str, Any] = {}
        kept = [line for line in self._lines() if _is_before(json.loads(line), steps_done, epochs_done)]
        with replacing(self._file) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")

    def _lines(self) -> list[str]:
        if not self._file.is_file():
            return []
        lines = self._file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [line for line in lines if line.endswith("}\n")]  # the last line may be incomplete

    def _write(self, entry: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def update_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the settings are in the run's record."""

    def log(self, key: str, value: Any, step: int) -> None:
        """Collect a value of an epoch. The line is written when the epoch ends."""
        self._epoch[key] = plain(value)
        if key == LAST_OF_EPOCH:
            self._write({"kind": "epoch", "epoch": step, **self._epoch})
            self._epoch = {}

    def log_step(self, report: StepReport) -> None:
        """Write a line for a step."""
        self._write({"kind": "step", **_rounded(report)})

    def log_summary(self, key: str, value: Any) -> None:
        """Write a line for a value of the whole training."""
        self._write({"kind": "summary", key: plain(value)})


def _is_before(entry: dict[str, Any], steps_done: int, epochs_done: int) -> bool:
    if entry["kind"] == "step":
        return entry["step"] <= steps_done
    return entry["kind"] == "epoch" and entry["epoch"] < epochs_done


def _rounded(report: StepReport) -> dict[str, Any]:
    """A report with measured values rounded to four digits."""
    measured = ("samples_per_second", "tflops", "peak_fraction", "seconds_left")
    values = asdict(report)
    return {k: float(f"{v:.4g}") if k in measured and v is not None else v for k, v in values.items()}


class TensorBoard:
    """Curves for TensorBoard, under `tensorboard` in the folder of the run.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, steps_done: int = 0):
        with from_extra("tensorboard"):
            import tensorboard  # noqa: F401
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder / TENSORBOARD_FOLDER), purge_step=steps_done or None)

    def update_config(self, config: dict[str, Any]) -> None:
        """Does nothing: the settings are in the run's record."""

    def log(self, key: str, value: Any, step: int) -> None:
        """Log a value of an epoch."""
        self._writer.add_scalar(f"epoch/{key}", value, step)
        if key == LAST_OF_EPOCH:
            self._writer.flush()

    def log_step(self, report: StepReport) -> None:
        """Log loss, learning rate and speed of a step."""
        for name in ("loss", "learning_rate", "samples_per_second", "tflops"):
            self._writer.add_scalar(f"step/{name}", getattr(report, name), report.step)

    def log_summary(self, key: str, value: Any) -> None:
        """Log a value of the whole training."""
        self._writer.add_scalar(f"summary/{key}", value)
