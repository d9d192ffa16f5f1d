"""Whole trainings on real cases by several processes, against one: batches, losses, checkpoints, validation."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from stunet.cli.main import parse
from stunet.errors import UserError
from stunet.folders import nnunet_folders
from stunet.training import checkpoint_folder
from stunet.training.parallel import Process, whole_weights
from stunet.training.run import build_trainer
from stunet.training.settings import TrainingSettings
from stunet.training.start import start_from
from stunet.training.stopping import TrainingStopped
from stunet.training.trainers import STUNetTrainer_tiny_ft
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.import_model import import_model
from stunet.weights.model import load_model
from tests.training.conftest import DATASET, environment
from tests.training.options import changed, settings_of
from tests.training.ranks import run_ranks

RECIPE = {"recipe": "finetune", "epochs": 2, "iterations_per_epoch": 3, "batch_size": 4, "patch": (16, 16, 16)}
SETTINGS = settings_of("tiny", **RECIPE, precision="float32", save_every=1, picture_every=1, compile="off")
FOLDER = f"{DATASET}/STUNetTrainer_tiny_ft__STUNetPlans_tiny__3d_fullres/fold_0"


def run(process: Process, results: str, settings: TrainingSettings, stop_at: int = 0):
    """Train without the final validation; the last rank is told to stop after step `stop_at`.

    In double precision: what differs is then a fault, and not rounding that the first steps of a training enlarge.
    """
    os.environ["nnUNet_results"] = results
    os.environ["nnUNet_n_proc_DA"] = "0"
    trainer = STUNetTrainer_tiny_ft
    build = trainer.build_network_architecture

    def double(plans_manager, *more):
        return build(plans_manager, *more).double()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "build_network_architecture", staticmethod(double))
        return _run(process, settings, stop_at)


def _run(process: Process, settings: TrainingSettings, stop_at: int):
    torch.manual_seed(settings.task.seed)
    trainer = build_trainer(settings, nnunet_folders())
    trainer.bare_network.register_forward_pre_hook(lambda _, images: tuple(image.double() for image in images))
    cases: dict[int, list[str]] = {}
    step = trainer._step

    def noting(batch):
        cases[batch["step"]] = list(batch["keys"])
        return step(batch)

    def told(report):
        if report.step == stop_at and process.rank == process.world_size - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    trainer._step, trainer.on_step = noting, told
    try:
        trainer.run_training()
    except TrainingStopped as stop:
        return str(stop)
    log = trainer.logger.get_checkpoint()
    weights = {name: tensor.cpu().numpy().copy() for name, tensor in whole_weights(trainer.network)}
    return cases, {key: log[key] for key in ("train_losses", "val_losses", "dice_per_class_or_region")}, weights


ALONE = Process(torch.device("cpu"))


@pytest.fixture(scope="module")
def alone(prepared_home, tmp_path_factory):
    """Cases, log, weights and folder of one process."""
    results = tmp_path_factory.mktemp("alone")
    with environment(prepared_home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_n_proc_DA", "0")
        patch.setenv("nnUNet_results", str(results))
        return *run(ALONE, str(results), SETTINGS), results / FOLDER


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def two(request, prepared_home, tmp_path_factory):
    """The same of two processes."""
    results = tmp_path_factory.mktemp(request.param)
    with environment(prepared_home):
        return run_ranks(2, run, str(results), changed(SETTINGS, strategy=request.param)), results / FOLDER


def largest_difference(found, expected) -> float:
    return max(float(np.abs(np.asarray(found[name]) - np.asarray(value)).max()) for name, value in expected.items())


def test_each_case_is_seen_when_one_process_would_see_it(alone, two):
    (first, second), _ = two
    assert sorted(alone[0]) == list(range(6))
    for step, cases in alone[0].items():
        assert first[0][step] + second[0][step] == cases


def test_losses_logs_and_weights_are_those_of_one_process(alone, two):
    for _, log, weights in two[0]:
        print("losses and pseudo-Dice differ by", largest_difference(log, alone[1]))
        assert largest_difference(log, alone[1]) < 1e-7
        assert list(weights) == list(alone[2])
        assert largest_difference(weights, alone[2]) < 1e-7


def test_one_process_writes_what_nnunets_tools_read(alone, two):
    _, folder = two
    names = {path.name for path in folder.iterdir() if not path.name.startswith("training_log")}
    assert names == {path.name for path in alone[3].iterdir() if not path.name.startswith("training_log")}
    ours, theirs = (
        torch.load(at / "checkpoint_final.pth", weights_only=False, map_location="cpu") for at in (folder, alone[3])
    )
    assert list(ours["network_weights"]) == list(theirs["network_weights"])
    assert largest_difference(ours["network_weights"], theirs["network_weights"]) < 1e-7
    momentum = [kept["optimizer_state"]["state"] for kept in (ours, theirs)]
    assert list(momentum[0]) == list(momentum[1])
    assert all(type(m["momentum_buffer"]) is torch.Tensor for m in momentum[0].values())
    assert read_checkpoint(folder / "checkpoint_final.pth").epoch == 2
    assert len((folder / "stunet_log.jsonl").read_text().splitlines()) == len(
        (alone[3] / "stunet_log.jsonl").read_text().splitlines()
    )


def test_a_checkpoint_of_two_becomes_one_model_file(alone, two, shared_data):
    _, folder = two
    weights, card = import_model(folder / checkpoint_folder.NEWEST)
    assert set(weights) == set(alone[2])
    assert largest_difference(weights, alone[2]) < 1e-7
    assert (card.labels, card.training["epochs"]) == (("background", "Anterior", "Posterior"), 2)
    with pytest.raises(UserError, match="leave --plans and -f out"):
        import_model(folder / checkpoint_folder.NEWEST, folds=[1])


@pytest.mark.parametrize(("before", "after"), [(2, 4), (2, 1), (1, 2)])
def test_told_to_stop_and_resumed_by_another_number_of_processes(alone, home, tmp_path, before, after):
    settings = changed(SETTINGS, strategy="fsdp", picture_every=0)
    stopped = started(before, str(tmp_path), settings, 4)
    assert all("stopped after step 4" in answer for answer in stopped)
    for cases, log, weights in started(after, str(tmp_path), changed(settings, resume=True)):
        assert sorted(cases) == [4, 5]
        assert largest_difference(log, alone[1]) < 1e-7
        assert largest_difference(weights, alone[2]) < 1e-7


def started(processes: int, *arguments):
    """`run` by so many processes; a single one has no group."""
    return run_ranks(processes, run, *arguments) if processes > 1 else [run(ALONE, *arguments)]


def begun(process: Process, results: str, settings: TrainingSettings) -> dict[str, np.ndarray]:
    """The whole weights with which a fine-tuning starts."""
    os.environ["nnUNet_results"] = results
    trainer = build_trainer(settings, nnunet_folders())
    start_from(trainer, settings.start)
    return {name: tensor.numpy().copy() for name, tensor in whole_weights(trainer.network)}


def test_a_network_in_parts_starts_with_a_models_weights(home, tmp_path):
    settings = changed(SETTINGS, strategy="fsdp", model="hippocampus", keep_head=True)
    expected = load_model("hippocampus").networks[0].state_dict()
    for weights in run_ranks(2, begun, str(tmp_path), settings):
        assert all(np.array_equal(weights[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 3}, "batch of 3 cannot be divided evenly among 2 processes"),
        ({"accumulate": 3}, "has 2 of the batch's 4 images, which cannot be divided into 3 parts"),
    ],
)
def test_batches_that_cannot_be_shared_out(home, tmp_path, changes, sentence):
    with pytest.raises(AssertionError, match=sentence):
        run_ranks(2, run, str(tmp_path), changed(SETTINGS, **changes))


OPTIONS = """-d 4 -f 0 --size tiny --epochs 1 --iterations 1 --batch-size 2 --patch 16 16 16 --device cpu
--precision float32 --workers 0 --picture-every 0 --json""".split()  # noqa: SIM905 (as one types it)


def result_of(home, results, *command):
    variables = {**os.environ, "nnUNet_results": str(results), "STUNET_HOME": str(home), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=variables, timeout=200)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_torchrun_and_gpus_train_and_validate_alike(home, tmp_path, strategy):
    """Each rank predicts a part of the validation cases, and one prints the result."""
    launchers = {
        "torchrun": ["-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "stunet", "train", *OPTIONS],
        "gpus": ["-m", "stunet", "train", *OPTIONS, "--gpus", "2"],
        "alone": ["-m", "stunet", "train", *OPTIONS],
    }
    summaries = {}
    for name, arguments in launchers.items():
        finished = result_of(home, tmp_path / name, sys.executable, *arguments, "--strategy", strategy)
        assert finished.returncode == 0, finished.stderr
        summaries[name] = json.loads(finished.stdout)
    folder = tmp_path / "torchrun" / FOLDER.replace("_ft", "")
    assert len(list((folder / "validation").glob("*.nii.gz"))) == 2
    assert json.loads((folder / "stunet_run.json").read_text())["processes"] == 2
    for name in ("torchrun", "gpus"):
        assert summaries[name]["dsc_per_label"] == pytest.approx(summaries["alone"]["dsc_per_label"], abs=1e-3)


@pytest.mark.slow
def test_bad_input_ends_with_a_sentence_and_its_exit_code(home, tmp_path):
    options = [*OPTIONS, "--gpus", "2", "--epochs", "0"]
    finished = result_of(home, tmp_path, sys.executable, "-m", "stunet", "train", *options)
    assert finished.returncode == 2
    assert "must be 1 or more" in finished.stderr


def test_gpus_within_torchrun_are_refused(home, monkeypatch):
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "x")):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="leave --gpus out"):
        parse(["train", *OPTIONS, "--gpus", "2"]).run()
    monkeypatch.delenv("RANK")
    with pytest.raises(UserError, match="--gpus must be 1 or more"):
        parse(["train", *OPTIONS, "--gpus", "0"]).run()


@pytest.mark.slow
def test_several_processes_that_are_told_to_stop_save_and_end(home, tmp_path):
    options = [*OPTIONS, "--gpus", "2", "--epochs", "1000"]
    environment_of_it = {**os.environ, "nnUNet_results": str(tmp_path)}
    started = subprocess.Popen([sys.executable, "-m", "stunet", "train", *options], env=environment_of_it)
    try:
        log = None
        for _ in range(300):
            log = next(tmp_path.rglob("stunet_checkpoint"), None)
            if log is not None or started.poll() is not None:
                break
            time.sleep(0.2)
        assert log is not None
        time.sleep(3)  # until the first steps are done
        started.send_signal(signal.SIGTERM)
        assert started.wait(timeout=60) == 128 + signal.SIGTERM
    finally:
        started.kill()
