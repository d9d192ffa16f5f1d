"""One training run: a prepared dataset becomes an nnU-Net v2 model folder."""

import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stunet.errors import UserError
from stunet.extras import import_extra
from stunet.files import write_json
from stunet.folders import Folders, find_dataset
from stunet.networks.network import product_of
from stunet.networks.registry import find_class, find_network
from stunet.plans.network_spec import kind_of
from stunet.training.folders import set_nnunet_environment
from stunet.training.parallel import STRATEGIES, Process, Strategy, process_group
from stunet.training.planners import plans_name
from stunet.training.precision import TrainingPrecision, resolve_precision
from stunet.training.recipes import RECIPES, Recipe, departures, spoken
from stunet.training.resuming import RECORD_NAME, SUMMARY, Origin, checkpoint_to_resume, is_trained
from stunet.training.start import Start, start_from
from stunet.training.throughput import StepReport
from stunet.training.trainer import Augmentation, STUNetTrainer
from stunet.training.trainers import FINE_TUNERS, TRAINERS, STUNetTrainer_ft
from stunet.weights.transfer_report import TransferReport

NUM_FOLDS = 5
"""Parts into which nnU-Net splits the cases."""


@dataclass(frozen=True)
class TrainingSettings:
    """What a run is asked to do, where and how; all else comes from the plans.

    Attributes:
        dataset: number or name of a prepared dataset.
        fold: 0 to 4 of nnU-Net's five-fold split, or "all".
        size: of the STU-Net, or another name in `stunet.networks.registry.NETWORKS`.
        configuration: "3d_fullres" or "3d_lowres".
        plan: "nnunet" or "published", one that the dataset was prepared with.
        recipe: how long, how fast and on what; see `stunet.training.recipes`.
        start: the model whose weights the training starts with; None starts with random ones.
        device: "cpu", "cuda" or "mps".
        precision: "auto", "float32" (not on CUDA), "bfloat16" or "float16" (CUDA); see `resolve_precision`.
        augmentation: "device" augments batches where the network is, "nnunet" samples where they are read, in the same
            way; "auto" is the device where it can.
        compiled: compile the network; None does so on CUDA GPUs.
        accumulate: in how many parts the gradient of a batch is computed: memory for one part is needed.
        checkpointed_activations: recompute the activations of each stage instead of keeping them.
        save_every: epochs between checkpoints.
        picture_every: epochs between pictures of a validation patch; 0 for none.
        tensorboard: write curves for TensorBoard, too.
        wandb: send nnU-Net's log to Weights & Biases (variables nnUNet_wandb_project and nnUNet_wandb_mode).
        strategy: "ddp" or "fsdp", how the network is spread where torchrun started several processes; None decides by
            the size, see `stunet.training.parallel.STRATEGIES`.
        seed: of the initial weights, of the order of the data and of its augmentation: the same seed gives the same
            run, whatever the number of workers.
        workers: processes that load and augment; nnU-Net's choice by default, 0 for none.
        resume: go on from the newest checkpoint.
    """

    dataset: str
    fold: int | str = 0
    size: str = "small"
    configuration: str = "3d_fullres"
    plan: str = "nnunet"
    recipe: Recipe = RECIPES["scratch"]
    start: Start | None = None
    device: str = "cpu"
    precision: TrainingPrecision = "auto"
    augmentation: Augmentation = "auto"
    compiled: bool | None = None
    accumulate: int = 1
    checkpointed_activations: bool = False
    save_every: int = 5
    picture_every: int = 10
    tensorboard: bool = False
    wandb: bool = False
    strategy: Strategy | None = None
    seed: int = 0
    workers: int | None = None
    resume: bool = False


@dataclass(frozen=True)
class TrainingResult:
    """Where the model lies and how good it is.

    Attributes:
        model_folder: an nnU-Net v2 model folder (plans.json, dataset.json, fold_*).
        validation_dsc: mean foreground DSC over the fold's validation cases, nnU-Net's figure.
        dsc_per_label: the same for each label value.
        seconds: of this run, validation included.
    """

    model_folder: Path
    validation_dsc: float
    dsc_per_label: dict[str, float]
    seconds: float


def train(
    settings: TrainingSettings,
    on_step: Callable[[StepReport], None] | None = None,
    on_transfer: Callable[[TransferReport], None] = lambda report: None,
) -> TrainingResult:
    """Train, then validate with nnU-Net's own predictor; where torchrun started this process, together with the others.

    Args:
        settings: what to do.
        on_step: called after each step.
        on_transfer: called with the report on the weights that the training starts with.

    Raises:
        UserError: a dataset that isn't prepared, a finished or missing run to resume, a device that isn't there, a loss
            that is no number any more, too little memory.
        TrainingStopped: SIGTERM came; a checkpoint was saved.
    """
    _check(settings)
    folders = set_nnunet_environment()
    with process_group(settings.device) as process:
        return _train(settings, folders, process, on_step, on_transfer)


def _train(
    settings: TrainingSettings,
    folders: Folders,
    process: Process,
    on_step: Callable[[StepReport], None] | None,
    on_transfer: Callable[[TransferReport], None],
) -> TrainingResult:
    start = time.perf_counter()
    _set_variables(settings, process)
    torch.manual_seed(settings.seed)
    trainer = build_trainer(settings, folders)
    if on_step is not None:
        trainer.on_step = on_step
    if settings.start is not None and not settings.resume:
        on_transfer(start_from(trainer, settings.start))
    _write_record(trainer, settings, seconds=0.0, finished=False)
    if not is_trained(Path(trainer.output_folder), trainer.current_epoch, trainer.num_epochs):
        trainer.run_training()
    trainer.perform_actual_validation()
    seconds = time.perf_counter() - start
    _write_record(trainer, settings, seconds, finished=True)
    return read_result(Path(trainer.output_folder), seconds)


def _set_variables(settings: TrainingSettings, process: Process) -> None:
    """What nnU-Net reads from its environment; one of several processes sends the log."""
    if settings.workers is not None:
        os.environ["nnUNet_n_proc_DA"] = str(settings.workers)
    os.environ["nnUNet_wandb_enabled"] = str(int(settings.wandb and process.is_first))


def default_device() -> str:
    """A CUDA GPU if there is one, else the CPU."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def _check(settings: TrainingSettings) -> None:
    find_network(settings.size)
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(settings.device, False):
        usable = ", ".join(name for name, is_there in available.items() if is_there)
        raise UserError(f"This machine has no device {settings.device!r}. Usable here: {usable}.")
    if not (settings.fold == "all" or (isinstance(settings.fold, int) and settings.fold >= 0)):
        raise UserError(f"A fold is 0, 1, 2, 3, 4 or all, not {settings.fold!r}.")
    if settings.precision == "float32" and settings.device == "cuda":
        raise UserError("nnU-Net trains in half precision on a CUDA GPU; --precision float32 is for the CPU.")
    resolve_precision(settings.precision, torch.device(settings.device))
    if settings.accumulate < 1:
        raise UserError("A batch has 1 part or more (--accumulate).")
    if settings.save_every < 1 or settings.picture_every < 0:
        raise UserError("--save-every is 1 or more, and --picture-every is 0 or more.")
    for module, is_asked_for in (("tensorboard", settings.tensorboard), ("wandb", settings.wandb)):
        if is_asked_for:
            import_extra(module, module)


def build_trainer(settings: TrainingSettings, folders: Folders) -> STUNetTrainer:
    """The initialised trainer of a run, resumed where asked for.

    Raises:
        UserError: a dataset that isn't prepared, or a folder that holds a run already.
    """
    name = find_dataset(settings.dataset, folders.preprocessed)
    plans_file = folders.preprocessed / name / f"{plans_name(settings.size, settings.plan)}.json"
    if not plans_file.is_file():
        raise UserError(
            f"{name} isn't prepared for {settings.size!r}. Run: "
            f"stunet prepare -d {settings.dataset} --size {settings.size}{_plan_option(settings)}"
        )
    plans = json.loads(plans_file.read_text())
    if settings.configuration not in plans["configurations"]:
        known = ", ".join(plans["configurations"])
        raise UserError(f"The plans of {name} have no configuration {settings.configuration!r}, only: {known}.")
    _require_images(plans_file.parent, plans["configurations"][settings.configuration]["data_identifier"], settings)
    _put_into_plan(settings, plans["configurations"][settings.configuration])
    plans["continue_training"] = settings.resume
    dataset = json.loads((plans_file.parent / "dataset.json").read_text())
    trainer = trainer_class(settings)(
        plans,
        settings.configuration,
        settings.fold,
        dataset,
        torch.device(settings.device),  # type: ignore[arg-type]
    )
    checkpoint = checkpoint_to_resume(
        Path(trainer.output_folder), settings.resume, Origin(settings.recipe, settings.seed, settings.start)
    )
    _configure(trainer, settings)
    _warn_of_departures(trainer)
    trainer.initialize()
    if checkpoint is not None:
        trainer.load_state(checkpoint)
    return trainer


def trainer_class(settings: TrainingSettings) -> type[STUNetTrainer]:
    """The trainer whose name the results are filed under: `_ft` where the body learns more slowly than the heads.

    Sizes of STU-Net have trainers of their own; other networks are built by the one that builds what its plans say.
    """
    if settings.recipe.name == "finetune":
        return FINE_TUNERS.get(settings.size, STUNetTrainer_ft)
    return TRAINERS.get(settings.size, STUNetTrainer)


def _put_into_plan(settings: TrainingSettings, configuration: dict[str, Any]) -> None:
    """Batch size and patch, which nnU-Net reads from its plans wherever it needs them.

    Raises:
        UserError: a patch that the network's strides do not divide, or a batch of fewer images than parts.
    """
    if settings.recipe.batch_size is not None:
        configuration["batch_size"] = settings.recipe.batch_size
    if settings.recipe.patch is not None:
        configuration["patch_size"] = list(settings.recipe.patch)
    multiples = _put_window_into_network(configuration)
    if any(edge % multiple for edge, multiple in zip(configuration["patch_size"], multiples, strict=True)):
        raise UserError(
            f"A patch of {spoken(configuration['patch_size'])} voxels (Z, Y, X) does not fit the network of this plan: "
            f"its edges must be multiples of {', '.join(map(str, multiples))}."
        )
    if list(configuration["patch_size"]) == multiples:
        raise UserError(f"A patch of {spoken(multiples)} voxels leaves one voxel at the bottom; give a larger one.")
    if settings.accumulate > configuration["batch_size"]:
        raise UserError(f"A batch of {configuration['batch_size']} cannot be cut into {settings.accumulate} parts.")


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


def _configure(trainer: STUNetTrainer, settings: TrainingSettings) -> None:
    trainer.follow(settings.recipe)
    trainer.seed = settings.seed
    trainer.precision = settings.precision
    trainer.augmentation = settings.augmentation
    trainer.strategy = settings.strategy or STRATEGIES.get(settings.size, "ddp")
    trainer.compiled = settings.compiled
    trainer.accumulate = settings.accumulate
    trainer.checkpointed_activations = settings.checkpointed_activations
    trainer.save_every = settings.save_every
    trainer.picture_every = settings.picture_every
    trainer.tensorboard = settings.tensorboard


def _warn_of_departures(trainer: STUNetTrainer) -> None:
    classes = len(trainer.label_manager.foreground_labels)
    for sentence in departures(trainer.recipe, trainer.configuration_manager.spacing, classes):
        trainer.print_to_log_file(sentence)


def _plan_option(settings: TrainingSettings) -> str:
    return "" if settings.plan == "nnunet" else f" --plan {settings.plan}"


def _require_images(prepared: Path, images: str, settings: TrainingSettings) -> None:
    """Enough preprocessed cases for nnU-Net's split, unless the user wrote one of their own."""
    cases = len(list((prepared / images).glob("*.pkl")))
    if not cases:
        raise UserError(
            f"{prepared / images} holds no preprocessed images. Run: "
            f"stunet prepare -d {settings.dataset} --size {settings.size} -c {settings.configuration}"
            f"{_plan_option(settings)}"
        )
    if settings.fold != "all" and cases < NUM_FOLDS and not (prepared / "splits_final.json").is_file():
        raise UserError(f"{prepared.name} has {cases} cases, too few for {NUM_FOLDS} folds. Train on all: -f all")


def _write_record(trainer: STUNetTrainer, settings: TrainingSettings, seconds: float, finished: bool) -> None:
    if not trainer.process.is_first:
        return
    record = {
        "settings": asdict(settings),
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
    """The result of a finished fold, from nnU-Net's own validation summary."""
    summary = json.loads((fold_folder / SUMMARY).read_text())
    per_label = {label: scores["Dice"] for label, scores in summary["mean"].items()}
    return TrainingResult(fold_folder.parent, summary["foreground_mean"]["Dice"], per_label, seconds)
