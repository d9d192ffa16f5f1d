"""What people are told when a step fails."""

import math
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from stunet.errors import UserError
from stunet.training import checkpoint_folder
from stunet.training.failures import (
    explaining_files,
    explaining_killed_processes,
    explaining_lack_of_memory,
    require_finite,
)
from tests.training.batches import random_batch
from tests.training.options import changed


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number(loss):
    require_finite(0.5, 7, ("case_1",), None)
    with pytest.raises(UserError, match=rf"{loss} in step 7 \(cases case_1, case_2\)\. Start again"):
        require_finite(loss, 7, ("case_1", "case_2"), None)
    with pytest.raises(UserError, match=r"last good checkpoint is run.stunet_checkpoint; .*--lr"):
        require_finite(loss, 7, ("case_1",), Path("run/stunet_checkpoint"))


def test_a_training_stops_at_such_a_loss(build, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))
    trainer = build("STUNetTrainer_tiny", "STUNetPlans_tiny")
    trainer.settings = changed(trainer.settings, precision="float32")
    trainer.follow(replace(trainer.recipe, epochs=1))
    trainer.initialize()
    trainer.on_train_epoch_start()
    batch = {**random_batch(trainer), "keys": ["case_1", "case_2"]}
    batch["data"][1, 0, 3, 3, 3] = math.inf
    trainer.save_state()
    said = rf"nan in step 1 \(cases case_1, case_2\).*{checkpoint_folder.NEWEST}; continue"
    with pytest.raises(UserError, match=said):
        trainer.train_step(batch)


def test_memory_that_does_not_suffice(build):
    advice = "Try less."
    here = pytest.raises(UserError, match=r"This machine's memory is too small.*Try less")
    with here, explaining_lack_of_memory(lambda: advice):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(UserError, match="The GPU's memory is too small"), explaining_lack_of_memory(lambda: advice):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="else"), explaining_lack_of_memory(lambda: pytest.fail("asked in vain")):
        raise RuntimeError("something else")


class Killed(Dataset):
    """Its first item kills the process that reads it, as the kernel does where memory runs out."""

    def __len__(self):
        return 1

    def __getitem__(self, number):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_loads_is_killed():
    with pytest.raises(UserError, match=r"was killed.*memory.*--resume.*--workers"), explaining_killed_processes():
        list(DataLoader(Killed(), num_workers=1))
    with pytest.raises(RuntimeError, match="else"), explaining_killed_processes():
        raise RuntimeError("something else")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (PermissionError(13, "Permission denied", "a/b.json"), r"a/b.json: cannot be .* \(Permission denied\)"),
        (OSError(28, "No space left on device"), r"results: cannot be .* \(No space left on device\)"),
        (FileNotFoundError(2, "No such file", "a/b.json"), "There is no file a/b.json"),
    ],
)
def test_files_that_cannot_be_read_or_written(error, sentence):
    with pytest.raises(UserError, match=sentence), explaining_files(Path("results")):
        raise error
