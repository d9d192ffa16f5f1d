"""The logs of a training, read as their readers do."""

import json

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.training.logs import LOG_NAME, JsonLines, TensorBoard, TrainingLog, plain
from stunet.training.throughput import StepReport


def report(step):
    return StepReport(step, 40, step // 20, 1 / 3, None, 0.01, 2.123456, 0.0123456, None, 60.0)


def log_epoch(log, epoch, dice):
    log.log("mean_fg_dice", dice, epoch)
    log.log("dice_per_class_or_region", [dice, np.float32(np.nan)], epoch)
    log.log("epoch_end_timestamps", 1e9, epoch)


@pytest.fixture
def log(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_wandb_enabled", "0")
    log = TrainingLog(str(tmp_path), False)
    log.loggers.append(JsonLines(tmp_path))
    return log


def lines(folder):
    return [json.loads(line) for line in (folder / LOG_NAME).read_text().splitlines()]


def test_lines_of_steps_epochs_and_the_end(log, tmp_path):
    for step in range(1, 22):
        log.log_step(report(step))
    log_epoch(log, 0, np.float32(0.8))
    log.log_summary("final_val/foreground_dice", np.float64(0.9))
    written = lines(tmp_path)
    assert [line["kind"] for line in written] == ["step", "step", "step", "epoch", "summary"]
    assert [line["step"] for line in written[:3]] == [1, 10, 20]
    assert written[0]["loss"] == 1 / 3 and written[0]["samples_per_second"] == 2.123
    assert written[3]["mean_fg_dice"] == written[3]["ema_fg_dice"] == float(np.float32(0.8))
    assert written[4]["final_val/foreground_dice"] == 0.9


def test_what_an_interrupted_run_wrote_too_much_is_dropped(log, tmp_path):
    for step in (1, 10, 20, 30):
        log.log_step(report(step))
    log_epoch(log, 0, 0.7)
    log_epoch(log, 1, 0.8)
    with (tmp_path / LOG_NAME).open("a") as file:
        file.write('{"kind": "step", "st')  # killed while it wrote
    JsonLines(tmp_path, steps_done=20, epochs_done=1)
    assert [line.get("step", line.get("epoch")) for line in lines(tmp_path)] == [1, 10, 20, 0]


def test_the_moving_average_survives_json(tmp_path, log):
    """nnU-Net's own is computed in the type of what is logged, which JSON cannot tell."""
    dice = np.random.default_rng(0).random(20, dtype=np.float32)
    for epoch, value in enumerate(dice):
        log_epoch(log, epoch, value)
    resumed = TrainingLog(str(tmp_path), False)
    for epoch, value in enumerate(dice[:7]):
        log_epoch(resumed, epoch, value)
    resumed.load_checkpoint(json.loads(json.dumps(resumed.get_checkpoint())))
    for epoch, value in enumerate(dice[7:], start=7):
        log_epoch(resumed, epoch, value)
    assert resumed.get_value("ema_fg_dice", None) == log.get_value("ema_fg_dice", None)


def test_plain_numbers():
    assert plain([np.float32(0.5), (np.int64(2), np.array(3.0))]) == [0.5, [2, 3.0]]
    assert type(plain(np.float32(0.1))) is float
    assert plain("word") == "word"


def test_tensorboard(tmp_path, log):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log.loggers.append(TensorBoard(tmp_path))
    for step in (1, 10, 20):
        log.log_step(report(step))
    log_epoch(log, 0, 0.7)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("step/loss")] == [1, 10, 20]
    assert events.Scalars("epoch/mean_fg_dice")[0].value == pytest.approx(0.7)


def test_tensorboard_that_is_not_there(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(UserError, match=r"pip install '\.\[tensorboard\]'"):
        TensorBoard(tmp_path)
