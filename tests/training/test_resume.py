"""A training that was stopped, killed and resumed, against one that was not: equal to the bit on the CPU."""

import json
import multiprocessing
import os
import random
import signal
from pathlib import Path

import pytest
import torch

from stunet.errors import UserError
from stunet.folders import nnunet_folders
from stunet.training import checkpoint_folder
from stunet.training.logs import LOG_NAME
from stunet.training.recipes import recipe_for
from stunet.training.run import build_trainer
from stunet.training.stopping import StopRequest, TrainingStopped
from tests.training.conftest import environment
from tests.training.options import changed, settings_of

SETTINGS = settings_of("tiny", epochs=3, iterations_per_epoch=3, patch=(16, 16, 16), precision="float32", save_every=1)


def run(resume=False, at_step=0, send=signal.SIGTERM, **changes):
    """Train without the final validation; after step `at_step` this process gets a signal."""
    torch.set_num_threads(1)
    os.environ["nnUNet_n_proc_DA"] = "0"
    torch.manual_seed(SETTINGS.task.seed)
    trainer = build_trainer(changed(SETTINGS, resume=resume, **changes), nnunet_folders())
    trainer.on_step = lambda report: os.kill(os.getpid(), send) if report.step == at_step else None
    trainer.run_training()
    return trainer


def killed(at_step: int, resume: bool) -> None:
    """Kill -9, in a process of its own."""
    child = multiprocessing.get_context("fork").Process(target=run, args=(resume, at_step, signal.SIGKILL))
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL


def files_of(trainer) -> dict[str, bytes]:
    folder = Path(trainer.output_folder) / checkpoint_folder.NEWEST
    return {path.name: path.read_bytes() for path in folder.glob("*.safetensors")}


def log_of(trainer) -> dict:
    """All that nnU-Net logs, but for the time of day."""
    return {key: values for key, values in trainer.logger.get_checkpoint().items() if "timestamps" not in key}


@pytest.fixture(scope="module")
def uninterrupted(prepared_home, tmp_path_factory):
    with environment(prepared_home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(tmp_path_factory.mktemp("uninterrupted")))
        return run()


@pytest.fixture
def results(home, monkeypatch, tmp_path):
    monkeypatch.setenv("nnUNet_results", str(tmp_path))


def assert_equal(trainer, uninterrupted):
    assert files_of(trainer) == files_of(uninterrupted)
    assert log_of(trainer) == log_of(uninterrupted)
    assert trainer._best_ema == uninterrupted._best_ema
    nnunets = [
        torch.load(Path(t.output_folder) / "checkpoint_final.pth", weights_only=False) for t in (trainer, uninterrupted)
    ]
    for key, value in nnunets[0]["network_weights"].items():
        assert torch.equal(value, nnunets[1]["network_weights"][key])


def test_killed_at_any_step(uninterrupted, results):
    """From epoch ends: the steps after the last one are done again."""
    step = random.SystemRandom().randint(1, recipe_for(SETTINGS).iterations - 1)
    print(f"killed after step {step}")
    killed(step, resume=False)
    assert_equal(run(resume=True), uninterrupted)


def test_stopped_within_an_epoch_then_killed(uninterrupted, results, monkeypatch):
    """From the middle of an epoch: SIGTERM saves after the step, and no step is done again."""
    said = r"stopped after step 4 and saved in .*stunet_checkpoint; continue with --resume"
    with pytest.raises(TrainingStopped, match=said) as stopped:
        run(at_step=4)
    assert stopped.value.exit_code == 143
    before = signal.getsignal(signal.SIGTERM)
    killed(5, resume=True)
    steps: list[int] = []
    trainer = build_trainer(changed(SETTINGS, resume=True), nnunet_folders())
    assert (trainer.current_epoch, len(trainer.epoch_losses)) == (1, 1)
    trainer.on_step = lambda report: steps.append(report.step)
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    trainer.run_training()
    assert steps == [5, 6, 7, 8, 9]
    assert signal.getsignal(signal.SIGTERM) == before
    assert_equal(trainer, uninterrupted)
    lines = [json.loads(line) for line in (Path(trainer.output_folder) / LOG_NAME).read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "epoch"] == [0, 1, 2]


def test_ctrl_c_saves_as_sigterm_does(uninterrupted, results):
    """A second one, before the step is done, ends the training at once."""
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(TrainingStopped) as stopped:
        run(at_step=5, send=signal.SIGINT)
    assert stopped.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) == before
    assert_equal(run(resume=True), uninterrupted)
    request = StopRequest()
    with pytest.raises(KeyboardInterrupt), request.listening():
        os.kill(os.getpid(), signal.SIGINT)
        assert request.is_made
        os.kill(os.getpid(), signal.SIGINT)


def test_a_damaged_checkpoint_costs_the_steps_since_the_one_before(uninterrupted, results):
    with pytest.raises(TrainingStopped):
        run(at_step=7)
    folder = next(Path(os.environ["nnUNet_results"]).rglob(checkpoint_folder.NEWEST))
    with (folder / checkpoint_folder.WEIGHTS).open("r+b") as file:
        file.truncate(1000)
    trainer = run(resume=True)
    assert_equal(trainer, uninterrupted)


def test_nnunets_own_checkpoint_is_never_opened(uninterrupted, results, monkeypatch):
    with pytest.raises(TrainingStopped):
        run(at_step=1)
    folder = next(Path(os.environ["nnUNet_results"]).rglob(checkpoint_folder.NEWEST))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("a pickle was opened"))
    build_trainer(changed(SETTINGS, resume=True), nnunet_folders())
    for name in (checkpoint_folder.NEWEST, checkpoint_folder.PREVIOUS):
        (folder.parent / name).rename(folder.parent / f"away_{name}")
    (folder.parent / "checkpoint_latest.pth").touch()
    with pytest.raises(UserError, match=r"contains only nnU-Net's checkpoint_latest.pth.*nnUNetv2_train"):
        build_trainer(changed(SETTINGS, resume=True), nnunet_folders())


def test_augmented_by_nnunets_own_transforms(home, monkeypatch, tmp_path):
    """The other tests here augment on the device; of nnU-Net's transforms, too, all follows from the seed."""
    trainers = []
    for name, stops in (("whole", ()), ("in_parts", (2, 6))):
        monkeypatch.setenv("nnUNet_results", str(tmp_path / name))
        for n, step in enumerate(stops):
            with pytest.raises(TrainingStopped):
                run(resume=n > 0, at_step=step, augmentation="nnunet")
        trainers.append(run(resume=bool(stops), augmentation="nnunet"))
    assert_equal(*trainers)
