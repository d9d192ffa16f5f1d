"""One training run: from a prepared dataset to an nnU-Net v2 model folder."""

import json
import math
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch

from stunet.errors import FileError, UnknownNameError, UserError
from stunet.extras import from_extra
from stunet.files import require_writable, write_json
from stunet.folders import Folders, find_dataset
from stunet.inference.backends.torch_backend import available_devices
from stunet.networks.network import product_of
from stunet.networks.registry import find_class, find_network
from stunet.plans.network_spec import kind_of
from stunet.training import environment
from stunet.training.checkpoint_folder import TrainingCheckpoint
from stunet.training.failures import explaining_files, explaining_killed_processes, explaining_lack_of_memory
from stunet.training.parallel import process_group
from stunet.training.planners import find_configuration, plans_name
from stunet.training.precision import resolve_precision
from stunet.training.recipes import Recipe, departures, recipe_for, spoken
from stunet.training.resuming import (
    RECORD_NAME,
    SUMMARY,
    checkpoint_to_resume,
    is_begun,
    is_trained,
    recorded_settings,
    require_started_alike,
)
from stunet.training.settings import HardwareSettings, LoggingSettings, TaskSettings, TrainingSettings
from stunet.training.splits import NUM_FOLDS, SPLITS_NAME, require_fitting_split
from stunet.training.start import size_of, start_from
from stunet.training.throughput import StepReport
from stunet.training.trainer import STUNetTrainer
from stunet.training.trainers import trainer_for
from stunet.training.validation import validate_again
from stunet.weights.transfer_report import TransferReport

START_NEEDS_MEMORY = (
    "Stop other programs that use it, take a smaller --size, or spread the network over several GPUs (--strategy fsdp)."
)

VALIDATION_NEEDS_MEMORY = (
    "The training itself is saved. Stop other programs that use the memory, and validate again with --validate-only "
    "last, on the CPU with --device cpu if necessary."
)


@dataclass(frozen=True)
class TrainingResult:
    """The trained model and its score.

    Attributes:
        model_folder: an nnU-Net v2 model folder (plans.json, dataset.json, fold_*).
        validation_dsc: mean foreground DSC over the fold's validation cases and the labels present in them; None if
            there are none. For fold "all" these are the training cases.
        dsc_per_label: the same for each label value; None if the label is absent in all references and predictions.
        seconds: of this run, including validation.
    """

    model_folder: Path
    validation_dsc: float | None
    dsc_per_label: dict[str, float | None]
    seconds: float


def train(
    settings: TrainingSettings,
    on_step: Callable[[StepReport], None] | None = None,
    on_transfer: Callable[[TransferReport], None] = lambda report: None,
    on_start: Callable[[], None] = lambda: None,
) -> TrainingResult:
    """Train, then validate with nnU-Net's own predictor. If torchrun started this process, it works with the others.

    Args:
        settings: what to do.
        on_step: called after each step.
        on_transfer: called with the report on the initial weights.
        on_start: called once dataset, plans and options are known to fit together.

    Raises:
        UserError: the dataset is not prepared, the run to resume is finished or missing, the device does not exist, the
            loss is not finite, or memory runs out.
        TrainingStopped: SIGTERM or Ctrl-C was received; a checkpoint was saved.
    """
    settings = decided(settings)
    _check(settings)
    folders = environment.set_nnunet_environment()
    require_writable(folders.results)
    with (
        process_group(settings.hardware.device) as process,
        explaining_files(folders.results),
        environment.loading_processes(settings.hardware.workers),
    ):
        start = time.perf_counter()
        # nnU-Net reads this variable; only one process sends the log
        os.environ["nnUNet_wandb_enabled"] = str(int(settings.logging.wandb and process.is_first))
        if process.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # as nnU-Net's own command does
            torch.backends.cudnn.allow_tf32 = settings.hardware.precision != "float32"  # TF32 has 10 bits of fraction
        torch.manual_seed(settings.task.seed)
        with explaining_lack_of_memory(START_NEEDS_MEMORY):
            trainer = build_trainer(settings, folders)
        on_start()
        if settings.task.validate_only is not None:
            return _validate_again(trainer, settings.task.validate_only, start)
        if on_step is not None:
            trainer.on_step = on_step
        if settings.start.model is not None and not settings.task.resume:
            on_transfer(start_from(trainer, settings.start))
        _write_record(trainer, seconds=0.0, finished=False)
        with explaining_killed_processes():
            if not is_trained(Path(trainer.output_folder), trainer.state(), trainer.recipe):
                trainer.run_training()
            with explaining_lack_of_memory(VALIDATION_NEEDS_MEMORY):
                trainer.perform_actual_validation()
        seconds = time.perf_counter() - start
        _write_record(trainer, seconds, finished=True)
        return read_result(Path(trainer.output_folder) / SUMMARY, seconds)


def _validate_again(trainer: STUNetTrainer, which: Literal["last", "best"], start: float) -> TrainingResult:
    with explaining_killed_processes(), explaining_lack_of_memory(VALIDATION_NEEDS_MEMORY):
        folder = validate_again(trainer, which)
    return read_result(folder / Path(SUMMARY).name, time.perf_counter() - start)


def decided(settings: TrainingSettings) -> TrainingSettings:
    """The settings with size and device filled in if they were left open."""
    task, hardware, model = settings.task, settings.hardware, settings.start.model
    if task.size is None:
        task = replace(task, size="small" if model is None else size_of(model))
    if hardware.device == "auto":
        hardware = replace(hardware, device=default_device())
    elif hardware.device.startswith("cuda:") and hardware.device in available_devices():
        # nnU-Net's trainer uses the first visible GPU
        os.environ["CUDA_VISIBLE_DEVICES"] = hardware.device.removeprefix("cuda:")
        hardware = replace(hardware, device="cuda")
    return replace(settings, task=task, hardware=hardware)


def default_device() -> Literal["cuda", "cpu"]:
    """A CUDA GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check(settings: TrainingSettings) -> None:
    """Refuse options that no dataset allows.

    Raises:
        UserError: the message names the option.
    """
    assert settings.task.size is not None
    find_network(settings.task.size)
    start, fold = settings.start, settings.task.fold
    if start.model is None and (start.keep_head or start.divide_channels):
        raise UserError("--keep-head and --divide-channels change how --from loads weights: give --from, too.")
    if fold != "all" and not (isinstance(fold, int) and fold >= 0):
        raise UserError(f"A fold is 0, 1, 2, 3, 4 or all, not {fold!r}.")
    if settings.hardware.accumulate < 1:
        raise UserError("--accumulate must be 1 or more.")
    _check_machine(settings.hardware)
    _check_logging(settings.logging)


def _check_logging(logging: LoggingSettings) -> None:
    if logging.save_every < 1 or logging.picture_every < 0:
        raise UserError("--save-every must be 1 or more, and --picture-every 0 or more.")
    for module, is_asked_for in (("tensorboard", logging.tensorboard), ("wandb", logging.wandb)):
        if is_asked_for:
            with from_extra(module):
                import_module(module)


def _check_machine(hardware: HardwareSettings) -> None:
    """Refuse a device that this machine does not have, and a precision that the device does not support."""
    present = available_devices()
    if hardware.device not in present:
        raise UnknownNameError.of("device", hardware.device, ["auto", *present])
    if hardware.workers is not None and hardware.workers < 0:
        raise UserError(f"--workers must be 0 or more, not {hardware.workers}.")
    resolve_precision(hardware.precision, torch.device(hardware.device))


def fold_folder(settings: TrainingSettings) -> Path:
    """The fold's folder of a training with these settings, which must have a size.

    Raises:
        UserError: the dataset is not prepared.
    """
    folders, task = environment.set_nnunet_environment(), settings.task
    dataset, size = find_dataset(task.dataset, folders.preprocessed), str(task.size)
    trainer = trainer_for(recipe_for(settings).name, size).__name__
    model = f"{trainer}__{plans_name(size, task.plan)}__{task.configuration}"
    return folders.results / dataset / model / f"fold_{task.fold}"


def build_trainer(settings: TrainingSettings, folders: Folders) -> STUNetTrainer:
    """The initialised trainer of a run, resumed if requested.

    Raises:
        UserError: the dataset is not prepared, or the folder already contains a run.
    """
    settings = decided(settings)
    task, recipe = settings.task, recipe_for(settings)
    name = find_dataset(task.dataset, folders.preprocessed)
    plans_file = folders.preprocessed / name / f"{plans_name(str(task.size), task.plan)}.json"
    if not plans_file.is_file():
        raise FileError(f"{name} isn't prepared for {task.size!r}. Run: {_prepare_command(task)}")
    plans = json.loads(plans_file.read_text())
    configuration = find_configuration(plans, task.configuration, name)
    plans["configurations"][task.configuration] = configuration
    _require_images(plans_file.parent, configuration["data_identifier"], task)
    _put_into_plan(recipe, settings.hardware.accumulate, configuration)
    plans["continue_training"] = task.resume or task.validate_only is not None
    dataset = json.loads((plans_file.parent / "dataset.json").read_text())
    checkpoint = _checkpoint(fold_folder(settings), settings, recipe)
    device = torch.device(settings.hardware.device)
    trainer = trainer_for(recipe.name, str(task.size))(plans, task.configuration, task.fold, dataset, device)
    trainer.settings = settings
    trainer.follow(recipe)
    classes = len(trainer.label_manager.foreground_labels)
    for sentence in departures(recipe, trainer.configuration_manager.spacing, classes):
        trainer.print_to_log_file(sentence)
    trainer.initialize()
    if checkpoint is not None:
        trainer.load_state(checkpoint)
    return trainer


def _checkpoint(fold: Path, settings: TrainingSettings, recipe: Recipe) -> TrainingCheckpoint | None:
    """The checkpoint to resume from; None if there is nothing to resume or only validation is requested."""
    if settings.task.validate_only is None:
        return checkpoint_to_resume(fold, settings, recipe)
    if not is_begun(fold):
        raise FileError(f"There is no training in {fold} to validate. Leave --validate-only out to train.")
    require_started_alike(fold, settings, recipe)
    return None


def _put_into_plan(recipe: Recipe, accumulate: int, configuration: dict[str, Any]) -> None:
    """Write batch size and patch into the plan's configuration, from which nnU-Net reads them.

    Raises:
        UserError: the network's strides do not divide the patch, or the batch has fewer images than parts.
    """
    if recipe.batch_size is not None:
        configuration["batch_size"] = recipe.batch_size
    if recipe.patch is not None:
        configuration["patch_size"] = list(recipe.patch)
    multiples = _put_window_into_network(configuration)
    if any(edge % multiple for edge, multiple in zip(configuration["patch_size"], multiples, strict=True)):
        raise UserError(
            f"A patch of {spoken(configuration['patch_size'])} voxels (Z, Y, X) does not fit the network of this plan: "
            f"its edges must be multiples of {', '.join(map(str, multiples))}."
        )
    if list(configuration["patch_size"]) == multiples:
        raise UserError(f"A patch of {spoken(multiples)} voxels leaves one voxel at the bottom; give a larger one.")
    if accumulate > configuration["batch_size"]:
        raise UserError(f"A batch of {configuration['batch_size']} cannot be divided into {accumulate} parts.")


def _put_window_into_network(configuration: dict[str, Any]) -> list[int]:
    """Set the patch of a network that is built for one window size.

    Returns:
        The numbers (Z, Y, X) by which the patch must be divisible.
    """
    architecture = configuration["architecture"]
    network_class = find_class(kind_of(architecture["network_class_name"]) or "stunet")
    arguments = architecture["arch_kwargs"]
    if "window_size" in network_class.planned_arguments:
        arguments["window_size"] = [int(n) for n in configuration["patch_size"]]
    if "strides" in arguments:
        return list(product_of(network_class.fitted_strides(arguments["strides"])))
    return list(network_class.patch_multiple)


def _prepare_command(task: TaskSettings) -> str:
    plan = "" if task.plan == "nnunet" else f" --plans {task.plan}"
    return f"stunet prepare -d {task.dataset} --size {task.size}{plan}"


def _require_images(prepared: Path, images: str, task: TaskSettings) -> None:
    """Require enough preprocessed cases for nnU-Net's split, or a stored split that fits them."""
    cases = [path.stem for path in (prepared / images).glob("*.pkl")]
    if not cases:
        raise FileError(
            f"{prepared / images} has no preprocessed images. Run: {_prepare_command(task)} -c {task.configuration}"
        )
    if task.fold == "all":
        return
    if len(cases) < NUM_FOLDS and not (prepared / SPLITS_NAME).is_file():
        raise UserError(f"{prepared.name} has {len(cases)} cases, too few for {NUM_FOLDS} folds. Train on all: -f all")
    require_fitting_split(prepared, cases, int(task.fold))


def _write_record(trainer: STUNetTrainer, seconds: float, finished: bool) -> None:
    if not trainer.process.is_first:
        return
    record = {
        "settings": recorded_settings(trainer.settings, trainer.recipe),
        "finished": finished,
        "seconds": round(seconds, 1),
        "iterations": trainer.num_epochs * trainer.num_iterations_per_epoch,
        "batch_size": trainer.configuration_manager.batch_size,
        "patch_size": [int(n) for n in trainer.configuration_manager.patch_size],
        "weight_decay": trainer.weight_decay,
        "initial_learning_rate": trainer.initial_lr,
        "precision": trainer.precision,
        "processes": trainer.process.world_size,
        "augments_on_device": trainer.augments_on_device,
        "versions": {name: version(name) for name in ("stunet", "torch", "nnunetv2", "batchgeneratorsv2", "numpy")},
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "system": platform.system()},
    }
    write_json(Path(trainer.output_folder) / RECORD_NAME, record)


def read_result(summary_file: Path, seconds: float) -> TrainingResult:
    """Read the result of a fold from nnU-Net's validation summary, in which an absent label is NaN."""
    summary = json.loads(summary_file.read_text())
    per_label = {label: _number(scores["Dice"]) for label, scores in summary["mean"].items()}
    known = [dsc for dsc in per_label.values() if dsc is not None]
    return TrainingResult(summary_file.parents[2], sum(known) / len(known) if known else None, per_label, seconds)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
