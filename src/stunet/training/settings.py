"""The options of `stunet train`. Each option is one field, with its type, default and help text.

The command line nests these dataclasses, and the trainer stores them. This module imports neither torch nor nnU-Net.
Values left open ("auto", None) are resolved where they are used.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from tyro.conf import FlagCreatePairsOff, Suppress, arg


@dataclass(frozen=True)
class TaskSettings:
    """What to train."""

    dataset: Annotated[str, arg(aliases=["-d"])]
    """Number or name of a prepared dataset."""
    fold: Annotated[int | str, Suppress] = 0
    """0 to 4, or all. The command line has `--folds` for it."""
    size: Annotated[str | None, arg(aliases=["--network"])] = None
    """tiny, small, base, large, huge, or another network, as in `prepare`. Default: the size of --from, or small."""
    configuration: Annotated[str, arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres or 3d_lowres."""
    plan: Annotated[Literal["nnunet", "published"], arg(name="plans")] = "nnunet"
    """The plan that the dataset was prepared with."""
    seed: int = 0
    """Random seed of weights and batches."""
    resume: bool = False
    """Continue from the newest checkpoint."""
    validate_only: Literal["last", "best"] | None = None
    """Do not train. Validate the last or the best checkpoint again, with the command that trained it."""


@dataclass(frozen=True)
class StartSettings:
    """Initial weights. Without --from they are random."""

    model: Annotated[str | None, arg(name="from", metavar="MODEL")] = None
    """Fine-tune this model: a name, a .safetensors, .model or .pth file, or a model folder of nnU-Net."""
    keep_head: bool = False
    """With --from: keep the head for classes that have the same name in the model."""
    divide_channels: bool = False
    """With --from: divide weights that are repeated for several input channels by their number."""


@dataclass(frozen=True)
class ScheduleSettings:
    """Schedule. Each option overrides the recipe."""

    recipe: str | None = None
    """scratch, pretrain, finetune or warmup. Default: finetune with --from, else scratch (or the network's own)."""
    epochs: int | None = None
    """Number of epochs. The learning rate decays over them."""
    iterations_per_epoch: Annotated[int | None, arg(name="iterations")] = None
    """Iterations per epoch. Default: from the recipe (250)."""
    learning_rate: Annotated[float | None, arg(name="lr")] = None
    """Initial learning rate. Default: from the recipe (0.01 in most)."""
    flat_lr: bool = False
    """Fine-tune everything at 0.001, as in the official code, instead of the body at a tenth of the head's rate."""
    freeze: Literal["nothing", "encoder"] = "nothing"
    """Part of the network that is not trained."""
    batch_size: int | None = None
    """Images per batch. Default: from the recipe or the plan (2 in the paper)."""
    patch: tuple[int, int, int] | None = None
    """Patch size in voxels. Default: from the recipe or the plan."""
    foreground: float | None = None
    """Fraction of each batch that is centred on foreground, from 0 to 1. Default: 0.33, as in nnU-Net."""
    class_weights: tuple[float, ...] | None = None
    """Weight of each class in the cross-entropy, the background first. Default: all 1."""
    patience: int | None = None
    """Stop after this many epochs without a better pseudo-Dice (moving average). Default: never."""


@dataclass(frozen=True)
class AugmentationSettings:
    """Augmentation."""

    mirror: Annotated[bool, arg(name="augment-mirror")] = True
    """Augment with mirrored copies. Turn it off where left and right matter, or the schedule is short."""
    paper_transforms: bool = True
    """Also augment with additive brightness and elastic deformation, as in the paper. nnU-Net does not."""
    augmentation: Literal["auto", "device", "nnunet"] = "auto"
    """device: batches, on --device. nnunet: single samples, by nnU-Net, on the CPU. auto: device (mps: nnunet)."""


@dataclass(frozen=True)
class HardwareSettings:
    """Hardware."""

    device: Annotated[str, arg(metavar="DEVICE")] = "auto"
    """auto, cpu, cuda, cuda:N or mps. auto: a CUDA GPU if there is one, else the CPU."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 if the hardware has it, else float16 on GPUs and float32 on CPUs."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network with torch. auto: on CUDA GPUs."""
    accumulate: int = 1
    """Compute the gradient of a batch in this many parts, to save memory."""
    checkpoint_activations: bool = False
    """Recompute activations in the backward pass: less memory, more time."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """With several GPUs: copy the network (ddp) or split it (fsdp). auto: split large and huge."""
    workers: int | None = None
    """Processes that load and augment. Default: nnU-Net's choice. 0: none."""


@dataclass(frozen=True)
class LoggingSettings:
    """Output during training."""

    save_every: int = 5
    """Epochs between checkpoints."""
    picture_every: int = 10
    """Epochs between pictures of a validation patch. 0: none."""
    tensorboard: bool = False
    """Write TensorBoard logs into the folder of the run."""
    wandb: bool = False
    """Log to Weights & Biases (set nnUNet_wandb_project and nnUNet_wandb_mode)."""


@dataclass(frozen=True)
class TrainingSettings:
    """The settings of a run. Everything else comes from the plans."""

    task: FlagCreatePairsOff[TaskSettings]
    start: FlagCreatePairsOff[StartSettings] = StartSettings()
    schedule: FlagCreatePairsOff[ScheduleSettings] = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    hardware: FlagCreatePairsOff[HardwareSettings] = HardwareSettings()
    logging: FlagCreatePairsOff[LoggingSettings] = LoggingSettings()
