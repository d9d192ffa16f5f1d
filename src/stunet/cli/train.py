"""`stunet train`: a prepared dataset becomes an nnU-Net v2 model folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from stunet.cli.output import MESSAGES, Json, print_json, print_table, stdout_to_stderr

if TYPE_CHECKING:
    from stunet.training.throughput import StepReport


@contextmanager
def training_progress() -> "Iterator[Callable[[StepReport], None]]":
    """A bar with all that a step reports, on stderr; silent where stderr is no terminal."""
    columns = (
        TextColumn("epoch {task.fields[epoch]}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=MESSAGES, transient=True, disable=not MESSAGES.is_terminal) as progress:
        task = progress.add_task("", total=None, epoch=0)
        yield lambda report: progress.update(
            task, completed=report.step, total=report.steps, epoch=report.epoch, description=spoken_report(report)
        )


def spoken_report(report: "StepReport") -> str:
    """A step in a line: loss, pseudo-Dice, speed, arithmetic, time left."""
    parts = [f"loss {report.loss:.4f}"]
    if report.pseudo_dice is not None:
        parts.append(f"pseudo-Dice {report.pseudo_dice:.3f}")
    parts += [f"{report.samples_per_second:.2f} samples/s", f"{report.tflops:.3g} TFLOP/s"]
    if report.peak_fraction is not None:
        parts[-1] += f" ({report.peak_fraction:.0%} of peak)"
    if report.seconds_left is not None:
        parts.append(f"{timedelta(seconds=round(report.seconds_left))} left")
    return ", ".join(parts)


@dataclass
class Train:
    """Train an STU-Net with the paper's settings inside nnU-Net, and validate it.

    Example: stunet train -d 4 -f 0 --size small --recipe scratch --epochs 40 --batch-size 2
    """

    dataset: Annotated[str, tyro.conf.arg(aliases=["-d"])]
    """Number or name of a dataset that `stunet prepare` has seen."""
    fold: Annotated[str, tyro.conf.arg(aliases=["-f"])] = "0"
    """0 to 4, or all."""
    size: str = "small"
    """tiny, small, base, large or huge."""
    configuration: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres or 3d_lowres."""
    plan: Literal["nnunet", "published"] = "nnunet"
    """Which plan the dataset was prepared with."""
    recipe: Literal["scratch", "pretrain", "finetune"] = "scratch"
    """The paper's numbers for a training from scratch, for pre-training or for fine-tuning; printed at the start."""
    epochs: int | None = None
    """Instead of the recipe's; the learning rates decay over them."""
    iterations: int | None = None
    """In an epoch, instead of the recipe's 250."""
    lr: float | None = None
    """First learning rate, instead of the recipe's 0.01."""
    batch_size: int | None = None
    """Images in a batch; the recipe's or the plan's by default (the paper: 2)."""
    patch: tuple[int, int, int] | None = None
    """Voxels Z Y X of an image in a batch; the recipe's or the plan's by default."""
    mirror: bool = True
    """Augment by mirrored copies. --no-mirror where left and right matter, or the schedule is short."""
    paper_transforms: bool = True
    """Augment by additive brightness and elastic deformation, too: the paper names them, nnU-Net leaves them out."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto takes a CUDA GPU if there is one, else the CPU."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 on GPUs and CPUs that have it, else float16 on GPUs and float32 on CPUs."""
    augmentation: Literal["auto", "device", "nnunet"] = "auto"
    """Augment whole batches on the device, or samples by nnU-Net's own transforms as they are read; auto: not on mps."""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the network; auto does so on CUDA GPUs."""
    accumulate: int = 1
    """Parts in which the gradient of a batch is computed, to save memory."""
    checkpoint_activations: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Recompute activations in the backward pass instead of keeping them: less memory, more time."""
    save_every: int = 5
    """Epochs between checkpoints."""
    picture_every: int = 10
    """Epochs between pictures of a validation patch (validation_patch.png); 0 for none."""
    tensorboard: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write curves for TensorBoard into the run's folder."""
    wandb: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Send nnU-Net's log to Weights & Biases."""
    seed: int = 0
    """Of the initial weights and of the batches: the same seed gives the same run."""
    workers: int | None = None
    """Processes that load and augment; nnU-Net's choice by default."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on from the newest checkpoint."""
    json: Json = False
    """Print JSON."""

    def run(self) -> int:
        """Train with a progress bar; nnU-Net's own log goes to stderr."""
        from stunet.training.recipes import find_recipe
        from stunet.training.run import TrainingSettings, default_device, train
        from stunet.training.stopping import EXIT_CODE, TrainingStopped

        recipe = find_recipe(self.recipe).with_changes(
            epochs=self.epochs,
            iterations_per_epoch=self.iterations,
            learning_rate=self.lr,
            batch_size=self.batch_size,
            patch=self.patch,
            mirror=self.mirror,
            paper_transforms=self.paper_transforms,
        )
        settings = TrainingSettings(
            dataset=self.dataset,
            fold=int(self.fold) if self.fold.isdigit() else self.fold,
            size=self.size,
            configuration=self.configuration,
            plan=self.plan,
            recipe=recipe,
            device=default_device() if self.device == "auto" else self.device,
            precision=self.precision,
            augmentation=self.augmentation,
            compiled={"auto": None, "on": True, "off": False}[self.compile],
            accumulate=self.accumulate,
            checkpointed_activations=self.checkpoint_activations,
            save_every=self.save_every,
            picture_every=self.picture_every,
            tensorboard=self.tensorboard,
            wandb=self.wandb,
            seed=self.seed,
            workers=self.workers,
            resume=self.resume,
        )
        MESSAGES.print("Recipe", *recipe.lines(), sep="\n  ", markup=False)
        try:
            with stdout_to_stderr(), training_progress() as on_step:
                result = train(settings, on_step)
        except TrainingStopped as stop:
            MESSAGES.print(f"stunet: {stop}", markup=False, soft_wrap=True)
            return EXIT_CODE
        summary = {
            "model_folder": str(result.model_folder),
            "validation_dsc": result.validation_dsc,
            "dsc_per_label": result.dsc_per_label,
            "seconds": round(result.seconds, 1),
            "next": f"stunet predict -m {result.model_folder} -f {self.fold} -i SCAN.nii.gz -o LABELS.nii.gz",
        }
        if self.json:
            print_json(summary)
        else:
            print_table("Trained", ("", "value"), [(key, str(value)) for key, value in summary.items()])
        return 0
