"""What `stunet train` can be told: each option is one field here, with its type, default and sentence.

The command line nests these dataclasses, and the trainer holds them. This file imports neither torch nor nnU-Net. What
an option that was left open ("auto", None) means is decided where it is used.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, arg


@dataclass(frozen=True)
class TaskSettings:
    """What to train."""

    dataset: Annotated[str, arg(aliases=["-d"])]
    """Number or name of a dataset that `stunet prepare` has seen."""
    fold: Annotated[int | str, arg(aliases=["-f"], metavar="STR")] = 0
    """0 to 4, or all."""
    size: Annotated[str | None, arg(aliases=["--network"])] = None
    """tiny, small, base, large or huge, or another network, as prepared; by default that of --from, or small."""
    configuration: Annotated[str, arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres or 3d_lowres."""
    plan: Annotated[Literal["nnunet", "published"], arg(name="plans")] = "nnunet"
    """Which plan the dataset was prepared with."""
    seed: int = 0
    """Of the initial weights and of the batches: the same seed gives the same run."""
    resume: bool = False
    """Go on from the newest checkpoint."""


@dataclass(frozen=True)
class StartSettings:
    """Which weights to start with; random ones without --from."""

    model: Annotated[str | None, arg(name="from")] = None
    """Fine-tune a model: a name of the catalogue, a .safetensors, .model or .pth file, or a model folder of nnU-Net."""
    keep_head: bool = False
    """With --from: classes that the model names as this dataset does start with its rows of the head."""
    divide_channels: bool = False
    """With --from: where input channels share weights, divide these by their number."""


@dataclass(frozen=True)
class ScheduleSettings:
    """How long, how fast, and on how much at a time. Each number replaces the recipe's."""

    recipe: str | None = None
    """The paper's numbers: scratch, pretrain or finetune; by default finetune with --from, and else scratch, or that of
    another network. Printed at the start."""
    epochs: int | None = None
    """Instead of the recipe's; the learning rates decay over them."""
    iterations_per_epoch: Annotated[int | None, arg(name="iterations")] = None
    """In an epoch, instead of the recipe's 250."""
    learning_rate: Annotated[float | None, arg(name="lr")] = None
    """First learning rate, instead of the recipe's 0.01."""
    flat_lr: bool = False
    """Fine-tune all at one rate, 0.001 as in the official code, instead of the body at a tenth of the head's."""
    freeze: Literal["nothing", "encoder"] = "nothing"
    """What stays as it is at the start."""
    batch_size: int | None = None
    """Images in a batch; the recipe's or the plan's by default (the paper: 2)."""
    patch: tuple[int, int, int] | None = None
    """Voxels Z Y X of an image in a batch; the recipe's or the plan's by default."""


@dataclass(frozen=True)
class AugmentationSettings:
    """How images are changed before the network sees them."""

    mirror: Annotated[bool, arg(name="augment-mirror")] = True
    """Augment with mirrored copies. Turn it off where left and right matter, or the schedule is short."""
    paper_transforms: bool = True
    """Augment by additive brightness and elastic deformation, too: the paper names them, nnU-Net leaves them out."""
    augmentation: Literal["auto", "device", "nnunet"] = "auto"
    """Augment batches on the device, or samples by nnU-Net's code as they are read; auto: device but on mps."""


@dataclass(frozen=True)
class HardwareSettings:
    """Where and how a step is computed."""

    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda, cuda:N or mps; auto takes a CUDA GPU if there is one, else the CPU."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on GPUs and CPUs that have it, else float16 on GPUs and float32 on CPUs."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network; auto does so on CUDA GPUs."""
    accumulate: int = 1
    """Parts in which the gradient of a batch is computed, to save memory."""
    checkpoint_activations: bool = False
    """Recompute activations in the backward pass instead of keeping them: less memory, more time."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """Several processes: a copy of the network in each (ddp), or a part (fsdp); auto: parts of large and huge."""
    workers: int | None = None
    """Processes that load and augment; nnU-Net's choice by default, 0 for none."""


@dataclass(frozen=True)
class LoggingSettings:
    """What is written during training."""

    save_every: int = 5
    """Epochs between checkpoints."""
    picture_every: int = 10
    """Epochs between pictures of a validation patch (validation_patch.png); 0 for none."""
    tensorboard: bool = False
    """Write curves for TensorBoard into the run's folder."""
    wandb: bool = False
    """Send nnU-Net's log to Weights & Biases (variables nnUNet_wandb_project and nnUNet_wandb_mode)."""


@dataclass(frozen=True)
class TrainingSettings:
    """What a run is asked to do, where and how; all else comes from the plans."""

    task: FlagCreatePairsOff[TaskSettings]
    start: FlagCreatePairsOff[StartSettings] = StartSettings()
    schedule: FlagCreatePairsOff[ScheduleSettings] = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    hardware: FlagCreatePairsOff[HardwareSettings] = HardwareSettings()
    logging: FlagCreatePairsOff[LoggingSettings] = LoggingSettings()
