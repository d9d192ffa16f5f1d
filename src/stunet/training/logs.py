"""What a training writes about itself: JSON lines, TensorBoard, and nnU-Net's own log.

Each kind here has the interface of nnU-Net's loggers (one value an epoch) and takes the report of each step.
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
"""A training has 250,000 steps or more."""

LAST_OF_EPOCH = "epoch_end_timestamps"
"""What nnU-Net logs when an epoch is over."""


def plain(value: Any) -> Any:
    """Numbers of numpy's as Python's, which JSON holds exactly."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [plain(v) for v in value]
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


class TrainingLog(MetaLogger):
    """nnU-Net's log, whose moving average is computed in float64: a log that was saved and read goes on the same."""

    def log(self, key: str, value: Any, step: int) -> None:
        """One value of an epoch."""
        super().log(key, plain(value), step)

    def log_step(self, report: StepReport) -> None:
        """One step of `STEPS_BETWEEN_LINES`, and the first, to those of the loggers that care."""
        if report.step != 1 and report.step % STEPS_BETWEEN_LINES:
            return
        for logger in self.loggers:
            if isinstance(logger, JsonLines | TensorBoard):
                logger.log_step(report)


class JsonLines:
    """`stunet_log.jsonl`: a line for each tenth step and each epoch, and one for each figure of the final validation.

    Args:
        folder: of the run.
        steps_done: lines of later steps and epochs are dropped: an interrupted run had written them.
        epochs_done: likewise.
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
        return [line for line in lines if line.endswith("}\n")]  # the last one may have been cut short

    def _write(self, entry: dict[str, Any]) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")

    def update_config(self, config: dict[str, Any]) -> None:
        """The settings of a run are in its record."""

    def log(self, key: str, value: Any, step: int) -> None:
        """One value of an epoch; its line is written when nnU-Net logs that the epoch is over."""
        self._epoch[key] = plain(value)
        if key == LAST_OF_EPOCH:
            self._write({"kind": "epoch", "epoch": step, **self._epoch})
            self._epoch = {}

    def log_step(self, report: StepReport) -> None:
        """A line for a step."""
        self._write({"kind": "step", **_rounded(report)})

    def log_summary(self, key: str, value: Any) -> None:
        """A line for a figure of the whole training."""
        self._write({"kind": "summary", key: plain(value)})


def _is_before(entry: dict[str, Any], steps_done: int, epochs_done: int) -> bool:
    if entry["kind"] == "step":
        return entry["step"] <= steps_done
    return entry["kind"] == "epoch" and entry["epoch"] < epochs_done


def _rounded(report: StepReport) -> dict[str, Any]:
    """What is measured, to four digits."""
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
        """The settings of a run are in its record."""

    def log(self, key: str, value: Any, step: int) -> None:
        """One value of an epoch."""
        self._writer.add_scalar(f"epoch/{key}", value, step)
        if key == LAST_OF_EPOCH:
            self._writer.flush()

    def log_step(self, report: StepReport) -> None:
        """Loss, learning rate and speed of a step."""
        for name in ("loss", "learning_rate", "samples_per_second", "tflops"):
            self._writer.add_scalar(f"step/{name}", getattr(report, name), report.step)

    def log_summary(self, key: str, value: Any) -> None:
        """A figure of the whole training."""
        self._writer.add_scalar(f"summary/{key}", value)
