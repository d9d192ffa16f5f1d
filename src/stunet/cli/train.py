"""`stunet train`: a prepared dataset becomes an nnU-Net v2 model folder."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import tyro
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from stunet.cli.command import Options, carry_out
from stunet.cli.output import MESSAGES, print_summary, print_table, stdout_to_stderr
from stunet.errors import UserError
from stunet.training.settings import TrainingSettings

if TYPE_CHECKING:
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
class Train(Options):
    """Train a network with nnU-Net and the paper's settings.

    Examples: stunet train -d 4 -f 0 --size small --epochs 40 --batch-size 2
              stunet train -d 4 -f 0 --from base --epochs 100
    """

    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")]
    gpus: int = 1
    """Number of GPUs on this machine. With --device cpu, number of processes."""

    def run(self) -> int:
        """Train with a progress bar, or start the processes that do; nnU-Net's own log goes to stderr."""
        from stunet.training.parallel import is_first_rank, is_started_by_torchrun

        if self.gpus == 1:
            MESSAGES.quiet = not is_first_rank()
            return self._train()
        if is_started_by_torchrun():
            raise UserError("torchrun has started the processes already; leave --gpus out.")
        from stunet.training.launch import launch
        from stunet.training.run import default_device

        if self.settings.hardware.device == "auto" and default_device() == "cpu":
            raise UserError(f"There is no GPU here for --gpus {self.gpus}. To train on the CPU, give --device cpu.")

        return launch(train_on_one_gpu, replace(self, gpus=1), processes=self.gpus)

    def _train(self) -> int:
        from stunet.training.parallel import is_first_rank
        from stunet.training.run import train
        from stunet.training.stopping import TrainingStopped

        task = self.settings.task
        try:
            with stdout_to_stderr(), training_progress() as on_step:
                result = train(self.settings, on_step, print_transfer, self._print_recipe)
        except TrainingStopped as stop:
            MESSAGES.print(f"stunet: {stop}", markup=False, soft_wrap=True)
            return stop.exit_code
        absent = [label for label, dsc in result.dsc_per_label.items() if dsc is None]
        if absent:
            MESSAGES.print(f"No case of this fold has the label {', '.join(absent)}; the mean leaves it out.")
        scored = "dsc_on_training_cases" if task.fold == "all" else "validation_dsc"
        summary = {
            "model_folder": str(result.model_folder),
            scored: result.validation_dsc,
            "dsc_per_label": result.dsc_per_label,
            "seconds": round(result.seconds, 1),
            "next": f"stunet predict -m {result.model_folder} -f {task.fold} -i SCAN.nii.gz -o LABELS.nii.gz",
        }
        if is_first_rank():
            print_summary("Trained", summary, self.json)
        return 0

    def _print_recipe(self) -> None:
        """Once it is known that the training can start."""
        from stunet.training.recipes import recipe_for

        MESSAGES.print("Recipe", *recipe_for(self.settings).lines(), sep="\n  ", markup=False)
        if (model := self.settings.start.model) is not None and self.settings.task.resume:
            MESSAGES.print(f"The run continues from its own checkpoint; {model} was read at its start.", markup=False)


def train_on_one_gpu(command: Train) -> int:
    """What each of several processes does; its errors become a sentence and an exit code, as those of any command."""
    return carry_out(command)
