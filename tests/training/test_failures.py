"""What people are told when a step fails."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stunet.errors import UserError
from stunet.training import checkpoint_folder
from stunet.training.failures import explaining_lack_of_memory, require_finite
from tests.training.batches import random_batch
from tests.training.options import changed


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number(loss):
    require_finite(0.5, 7, ("case_1",), None)
    with pytest.raises(UserError, match=rf"{loss} in step 7, whose batch holds case_1, case_2. Start again"):
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
    with pytest.raises(UserError, match=rf"nan in step 1, .*case_1, case_2.*{checkpoint_folder.NEWEST}; go on"):
        trainer.train_step(batch)


def test_memory_that_does_not_suffice(build):
    advice = "Try less."
    here = pytest.raises(UserError, match=r"This machine's memory does not suffice.*Try less")
    with here, explaining_lack_of_memory(lambda: advice):
        torch.empty(2**60, dtype=torch.uint8)
    with pytest.raises(UserError, match="The GPU's memory does not suffice"), explaining_lack_of_memory(lambda: advice):
        raise torch.OutOfMemoryError("CUDA out of memory")
    with pytest.raises(RuntimeError, match="else"), explaining_lack_of_memory(lambda: pytest.fail("asked in vain")):
        raise RuntimeError("something else")
