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
    """Number or name of a prepared dataset."""
    fold: Annotated[int | str, arg(aliases=["-f"], metavar="FOLD")] = 0
    """0 to 4, or all."""
    size: Annotated[str | None, arg(aliases=["--network"])] = None
    """tiny, small, base, large, huge, or another network, as in `prepare`. Default: that of --from, or small."""
    configuration: Annotated[str, arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres or 3d_lowres."""
    plan: Annotated[Literal["nnunet", "published"], arg(name="plans")] = "nnunet"
    """The plan that the dataset was prepared with."""
    seed: int = 0
    """Random seed of weights and batches."""
    resume: bool = False
    """Continue from the newest checkpoint."""


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
    """Schedule. Each number replaces the one of the recipe."""

    recipe: str | None = None
    """scratch, pretrain or finetune. Default: finetune with --from, else scratch (or the network's own recipe)."""
    epochs: int | None = None
    """Number of epochs. The learning rate decays over them."""
    iterations_per_epoch: Annotated[int | None, arg(name="iterations")] = None
    """Iterations per epoch. The recipe has 250."""
    learning_rate: Annotated[float | None, arg(name="lr")] = None
    """Initial learning rate. The recipe has 0.01."""
    flat_lr: bool = False
    """Fine-tune everything at 0.001, as in the official code, instead of the body at a tenth of the head's rate."""
    freeze: Literal["nothing", "encoder"] = "nothing"
    """Part of the network that is not trained."""
    batch_size: int | None = None
    """Images per batch. Default: that of the recipe or the plan (2 in the paper)."""
    patch: tuple[int, int, int] | None = None
    """Patch size in voxels. Default: that of the recipe or the plan."""


@dataclass(frozen=True)
class AugmentationSettings:
    """Augmentation."""

    mirror: Annotated[bool, arg(name="augment-mirror")] = True
    """Augment with mirrored copies. Turn it off where left and right matter, or the schedule is short."""
    paper_transforms: bool = True
    """Also augment with additive brightness and elastic deformation, as the paper says. nnU-Net does not."""
    augmentation: Literal["auto", "device", "nnunet"] = "auto"
    """device: whole batches where the network is. nnunet: samples, by nnU-Net's code. auto: device (mps: nnunet)."""


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
    """What a run is asked to do, where and how; all else comes from the plans."""

    task: FlagCreatePairsOff[TaskSettings]
    start: FlagCreatePairsOff[StartSettings] = StartSettings()
    schedule: FlagCreatePairsOff[ScheduleSettings] = ScheduleSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    hardware: FlagCreatePairsOff[HardwareSettings] = HardwareSettings()
    logging: FlagCreatePairsOff[LoggingSettings] = LoggingSettings()
