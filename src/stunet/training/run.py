"""One training run: a prepared dataset becomes an nnU-Net v2 model folder."""

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
from stunet.files import write_json
from stunet.folders import Folders, find_dataset
from stunet.inference.backends.torch_backend import available_devices
from stunet.networks.network import product_of
from stunet.networks.registry import find_class, find_network
from stunet.plans.network_spec import kind_of
from stunet.training import environment
from stunet.training.failures import explaining_files, explaining_killed_processes
from stunet.training.parallel import Process, process_group
from stunet.training.planners import find_configuration, plans_name
from stunet.training.precision import resolve_precision
from stunet.training.recipes import Recipe, departures, recipe_for, spoken
from stunet.training.resuming import RECORD_NAME, SUMMARY, checkpoint_to_resume, is_trained, recorded_settings
from stunet.training.settings import HardwareSettings, LoggingSettings, TaskSettings, TrainingSettings
from stunet.training.splits import NUM_FOLDS, SPLITS_NAME, require_fitting_split
from stunet.training.start import size_of, start_from
from stunet.training.throughput import StepReport
from stunet.training.trainer import STUNetTrainer
from stunet.training.trainers import FINE_TUNERS, TRAINERS, STUNetTrainer_ft
from stunet.weights.transfer_report import TransferReport


@dataclass(frozen=True)
class TrainingResult:
    """Where the model lies and how good it is.

    Attributes:
        model_folder: an nnU-Net v2 model folder (plans.json, dataset.json, fold_*).
        validation_dsc: mean foreground DSC over the fold's validation cases and the labels that they hold; None where
            they hold none. Of fold "all" these are the training cases.
        dsc_per_label: the same for each label value; None where no case holds the label or was given it.
        seconds: of this run, validation included.
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
    """Train, then validate with nnU-Net's own predictor; where torchrun started this process, together with the others.

    Args:
        settings: what to do.
        on_step: called after each step.
        on_transfer: called with the report on the weights that the training starts with.
        on_start: called once dataset, plans and options are found to suit each other.

    Raises:
        UserError: a dataset that isn't prepared, a finished or missing run to resume, a device that isn't there, a loss
            that is no number any more, too little memory.
        TrainingStopped: SIGTERM or Ctrl-C came; a checkpoint was saved.
    """
    settings = _decided(settings)
    _check(settings)
    folders = environment.set_nnunet_environment()
    with process_group(settings.hardware.device) as process, explaining_files(folders.results):
        start = time.perf_counter()
        _set_variables(settings, process)
        if process.device.type == "cuda":
            torch.backends.cudnn.benchmark = True  # as nnU-Net's own command does
        torch.manual_seed(settings.task.seed)
        trainer = build_trainer(settings, folders)
        on_start()
        if on_step is not None:
            trainer.on_step = on_step
        if settings.start.model is not None and not settings.task.resume:
            on_transfer(start_from(trainer, settings.start))
        _write_record(trainer, seconds=0.0, finished=False)
        with explaining_killed_processes():
            if not is_trained(Path(trainer.output_folder), trainer.current_epoch, trainer.num_epochs):
                trainer.run_training()
            trainer.perform_actual_validation()
        seconds = time.perf_counter() - start
        _write_record(trainer, seconds, finished=True)
        return read_result(Path(trainer.output_folder), seconds)


def _decided(settings: TrainingSettings) -> TrainingSettings:
    """With a size and a device where they were left open."""
    task, hardware, model = settings.task, settings.hardware, settings.start.model
    if task.size is None:
        task = replace(task, size="small" if model is None else size_of(model))
    if hardware.device == "auto":
        hardware = replace(hardware, device=default_device())
    elif hardware.device.startswith("cuda:") and hardware.device in available_devices():
        # nnU-Net's trainer takes the first GPU that it sees
        os.environ["CUDA_VISIBLE_DEVICES"] = hardware.device.removeprefix("cuda:")
        hardware = replace(hardware, device="cuda")
    return replace(settings, task=task, hardware=hardware)


def default_device() -> Literal["cuda", "cpu"]:
    """A CUDA GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _set_variables(settings: TrainingSettings, process: Process) -> None:
    """What nnU-Net reads from its environment; one of several processes sends the log."""
    if settings.hardware.workers is not None:
        os.environ["nnUNet_n_proc_DA"] = str(settings.hardware.workers)
    os.environ["nnUNet_wandb_enabled"] = str(int(settings.logging.wandb and process.is_first))


def _check(settings: TrainingSettings) -> None:
    """Refuse what cannot be done on any dataset.

    Raises:
        UserError: it names the option.
    """
    assert settings.task.size is not None
    find_network(settings.task.size)
    start, fold = settings.start, settings.task.fold
    if start.model is None and (start.keep_head or start.divide_channels):
        raise UserError("--keep-head and --divide-channels say how --from takes weights over: give --from, too.")
    if fold != "all" and not (isinstance(fold, int) and fold >= 0):
        raise UserError(f"A fold is 0, 1, 2, 3, 4 or all, not {fold!r}.")
    if settings.hardware.accumulate < 1:
        raise UserError("A batch has 1 part or more (--accumulate).")
    _check_machine(settings.hardware)
    _check_logging(settings.logging)


def _check_logging(logging: LoggingSettings) -> None:
    if logging.save_every < 1 or logging.picture_every < 0:
        raise UserError("--save-every is 1 or more, and --picture-every is 0 or more.")
    for module, is_asked_for in (("tensorboard", logging.tensorboard), ("wandb", logging.wandb)):
        if is_asked_for:
            with from_extra(module):
                import_module(module)


def _check_machine(hardware: HardwareSettings) -> None:
    """Refuse a device that this machine lacks, and a precision that the device lacks."""
    present = available_devices()
    if hardware.device not in present:
        raise UnknownNameError.of("device", hardware.device, ["auto", *present])
    if hardware.workers is not None and hardware.workers < 0:
        raise UserError(f"{hardware.workers} processes cannot load; --workers is 0 or more.")
    if hardware.precision == "float32" and hardware.device.startswith("cuda"):
        raise UserError("nnU-Net trains in half precision on a CUDA GPU; --precision float32 is for the CPU.")
    resolve_precision(hardware.precision, torch.device(hardware.device))


def build_trainer(settings: TrainingSettings, folders: Folders) -> STUNetTrainer:
    """The initialised trainer of a run, resumed where asked for.

    Raises:
        UserError: a dataset that isn't prepared, or a folder that holds a run already.
    """
    settings = _decided(settings)
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
    plans["continue_training"] = task.resume
    dataset = json.loads((plans_file.parent / "dataset.json").read_text())
    device = torch.device(settings.hardware.device)
    trainer = trainer_class(settings)(plans, task.configuration, task.fold, dataset, device)
    checkpoint = checkpoint_to_resume(Path(trainer.output_folder), settings, recipe)
    trainer.settings = settings
    trainer.follow(recipe)
    classes = len(trainer.label_manager.foreground_labels)
    for sentence in departures(recipe, trainer.configuration_manager.spacing, classes):
        trainer.print_to_log_file(sentence)
    trainer.initialize()
    if checkpoint is not None:
        trainer.load_state(checkpoint)
    return trainer


def trainer_class(settings: TrainingSettings) -> type[STUNetTrainer]:
    """The trainer whose name the results are filed under: `_ft` where the body learns more slowly than the heads.

    Sizes of STU-Net have trainers of their own; other networks are built by the one that builds what its plans say.
    """
    if recipe_for(settings).name == "finetune":
        return FINE_TUNERS.get(settings.task.size or "", STUNetTrainer_ft)
    return TRAINERS.get(settings.task.size or "", STUNetTrainer)


def _put_into_plan(recipe: Recipe, accumulate: int, configuration: dict[str, Any]) -> None:
    """Batch size and patch, which nnU-Net reads from its plans wherever it needs them.

    Raises:
        UserError: a patch that the network's strides do not divide, or a batch of fewer images than parts.
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
        raise UserError(f"A batch of {configuration['batch_size']} cannot be cut into {accumulate} parts.")


def _put_window_into_network(configuration: dict[str, Any]) -> list[int]:
    """Tell a network that is built for one window the patch.

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
    """Enough preprocessed cases for nnU-Net's split, or a stored split that fits them."""
    cases = [path.stem for path in (prepared / images).glob("*.pkl")]
    if not cases:
        raise FileError(
            f"{prepared / images} holds no preprocessed images. Run: {_prepare_command(task)} -c {task.configuration}"
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


def read_result(fold_folder: Path, seconds: float) -> TrainingResult:
    """The result of a finished fold, from nnU-Net's own validation summary, in which an absent label is NaN."""
    summary = json.loads((fold_folder / SUMMARY).read_text())
    per_label = {label: _number(scores["Dice"]) for label, scores in summary["mean"].items()}
    known = [dsc for dsc in per_label.values() if dsc is not None]
    return TrainingResult(fold_folder.parent, sum(known) / len(known) if known else None, per_label, seconds)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value
