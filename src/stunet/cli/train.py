"""`stunet train`: a prepared dataset becomes an nnU-Net v2 model folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from stunet.cli.output import MESSAGES, Json, print_json, print_table, stdout_to_stderr
from stunet.errors import UserError

if TYPE_CHECKING:
    from stunet.training.recipes import Recipe
    from stunet.training.start import Start
    from stunet.training.throughput import StepReport
    from stunet.weights.transfer_report import TransferReport


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


def print_transfer(report: "TransferReport") -> None:
    """What the training starts with, on stderr."""
    print_table("The start", ("", "value"), report.rows(), MESSAGES)


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
    """Train an STU-Net, or a network that the paper compares it with, by the paper's settings inside nnU-Net.

    Examples: stunet train -d 4 -f 0 --size small --epochs 40 --batch-size 2
              stunet train -d 4 -f 0 --from base --epochs 100
    """

    dataset: Annotated[str, tyro.conf.arg(aliases=["-d"])]
    """Number or name of a dataset that `stunet prepare` has seen."""
    fold: Annotated[str, tyro.conf.arg(aliases=["-f"])] = "0"
    """0 to 4, or all."""
    start: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Fine-tune a model: a name of the catalogue, a .safetensors, .model or .pth file, or a model folder of nnU-Net."""
    keep_head: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With --from: classes that the model names as this dataset does start with its rows of the head."""
    divide_channels: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """With --from: where input channels share weights, divide these by their number."""
    freeze: Literal["nothing", "encoder"] = "nothing"
    """What stays as it is at the start."""
    flat_lr: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Fine-tune all at one rate, 0.001 as in the official code, instead of the body at a tenth of the head's."""
    size: Annotated[str | None, tyro.conf.arg(aliases=["--network"])] = None
    """tiny, small, base, large or huge, or another network, as prepared; by default that of --from, or small."""
    configuration: Annotated[str, tyro.conf.arg(aliases=["-c"])] = "3d_fullres"
    """3d_fullres or 3d_lowres."""
    plan: Literal["nnunet", "published"] = "nnunet"
    """Which plan the dataset was prepared with."""
    recipe: str | None = None
    """The paper's numbers: scratch, pretrain or finetune; by default finetune with --from, and else scratch, or that of
    another network. Printed at the start."""
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
    """Augment batches on the device, or samples by nnU-Net's code as they are read; auto: device but on mps."""
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
    gpus: int = 1
    """Processes that train together on this machine, one for each GPU; with --device cpu so many on the CPU."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """Several processes: a copy of the network in each (ddp), or a part (fsdp); auto: parts of large and huge."""
    seed: int = 0
    """Of the initial weights and of the batches: the same seed gives the same run."""
    workers: int | None = None
    """Processes that load and augment; nnU-Net's choice by default."""
    resume: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Go on from the newest checkpoint."""
    json: Json = False
    """Print JSON."""

    def run(self) -> int:
        """Train with a progress bar, or start the processes that do; nnU-Net's own log goes to stderr."""
        from stunet.training.parallel import is_first_rank, is_started_by_torchrun

        if self.gpus == 1:
            MESSAGES.quiet = not is_first_rank()
            return self._train()
        if is_started_by_torchrun():
            raise UserError("torchrun has started the processes already; leave --gpus out.")
        from stunet.training.launch import launch

        return launch(train_on_one_gpu, replace(self, gpus=1), processes=self.gpus)

    def _train(self) -> int:
        from stunet.training.parallel import is_first_rank
        from stunet.training.run import TrainingSettings, default_device, train
        from stunet.training.stopping import EXIT_CODE, TrainingStopped

        recipe, start = self._recipe(), self._start()
        settings = TrainingSettings(
            dataset=self.dataset,
            fold=int(self.fold) if self.fold.isdigit() else self.fold,
            size=self._size(),
            configuration=self.configuration,
            plan=self.plan,
            recipe=recipe,
            start=start,
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
            strategy=None if self.strategy == "auto" else self.strategy,
            seed=self.seed,
            workers=self.workers,
            resume=self.resume,
        )
        MESSAGES.print("Recipe", *recipe.lines(), sep="\n  ", markup=False)
        if start is not None and self.resume:
            MESSAGES.print(
                f"The run goes on from its own checkpoint; {start.model} was read when it started.", markup=False
            )
        try:
            with stdout_to_stderr(), training_progress() as on_step:
                result = train(settings, on_step, print_transfer)
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
        if not is_first_rank():
            return 0
        if self.json:
            print_json(summary)
        else:
            print_table("Trained", ("", "value"), [(key, str(value)) for key, value in summary.items()])
        return 0

    def _recipe(self) -> "Recipe":
        from stunet.training.recipes import find_recipe, recipe_of

        recipe = find_recipe("finetune" if self.start else recipe_of(self._size()).name)
        if self.recipe is not None:
            recipe = find_recipe(self.recipe)
        if self.flat_lr:
            recipe = recipe.at_one_rate()
        return recipe.with_changes(
            epochs=self.epochs,
            iterations_per_epoch=self.iterations,
            learning_rate=self.lr,
            batch_size=self.batch_size,
            patch=self.patch,
            mirror=self.mirror,
            paper_transforms=self.paper_transforms,
            freeze_encoder=self.freeze == "encoder",
        )

    def _start(self) -> "Start | None":
        from stunet.training.start import Start

        if self.start is not None:
            return Start(self.start, self.keep_head, self.divide_channels)
        if self.keep_head or self.divide_channels:
            raise UserError("--keep-head and --divide-channels say how --from takes weights over: give --from, too.")
        return None

    def _size(self) -> str:
        from stunet.training.start import size_of

        if self.size is not None:
            return self.size
        return "small" if self.start is None else size_of(self.start)


def train_on_one_gpu(command: Train) -> int:
    """What each of several processes does; its errors become a sentence and an exit code, as those of any command."""
    from stunet.cli.main import carry_out

    return carry_out(command)
