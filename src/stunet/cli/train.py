"""`stunet train`: train on a prepared dataset and write an nnU-Net v2 model folder."""

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
    from stunet.training.run import TrainingResult
    from stunet.training.throughput import StepReport
    from stunet.weights.transfer_report import TransferReport


@contextmanager
def training_progress() -> "Iterator[Callable[[StepReport], None]]":
    """A progress bar with each step's report on stderr; silent if stderr is not a terminal."""
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
    """Print the initial weights' report on stderr."""
    print_table("The start", ("", "value"), report.rows(), MESSAGES)


def spoken_report(report: "StepReport") -> str:
    """A step in one line: loss, pseudo-Dice, speed, operations, time left."""
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
              stunet train -d 4 -f 0 1 2 3 4 --size small
    """

    settings: Annotated[TrainingSettings, tyro.conf.arg(name="")]
    folds: Annotated[tuple[int | str, ...], tyro.conf.arg(aliases=["-f", "--fold"], metavar="FOLD...")] = (0,)
    """0 to 4, or all. Several are trained one after the other, scored together, and written into one model file."""
    gpus: int = 1
    """Number of GPUs on this machine. With --device cpu, number of processes."""

    def run(self) -> int:
        """Train one fold, or several and combine them."""
        if len(self.folds) > 1:
            return self._cross_validate()
        if not self.folds:
            raise UserError("Give a fold: -f 0, or several, or -f all.")
        return self._train_fold(self._of_fold(self.folds[0]))

    def _of_fold(self, fold: int | str) -> TrainingSettings:
        return replace(self.settings, task=replace(self.settings.task, fold=fold))

    def _train_fold(self, settings: TrainingSettings) -> int:
        """Train with a progress bar, or start the processes that do. nnU-Net's own log goes to stderr."""
        from stunet.training.parallel import is_first_rank, is_started_by_torchrun

        if self.gpus == 1:
            MESSAGES.quiet = not is_first_rank()
            return self._train(settings)
        if is_started_by_torchrun():
            raise UserError("torchrun has started the processes already; leave --gpus out.")
        from stunet.training.launch import launch
        from stunet.training.run import default_device

        if self.settings.hardware.device == "auto" and default_device() == "cpu":
            raise UserError(f"There is no GPU here for --gpus {self.gpus}. To train on the CPU, give --device cpu.")
        one_fold = replace(self, settings=settings, folds=(settings.task.fold,), gpus=1)
        return launch(train_on_one_gpu, one_fold, processes=self.gpus)

    def _cross_validate(self) -> int:
        from stunet.evaluation.tables import tables
        from stunet.training.cross_validation import cross_validate
        from stunet.training.parallel import is_started_by_torchrun

        if is_started_by_torchrun():
            raise UserError("Under torchrun, train one fold at a time. --gpus trains several folds on this machine.")
        if self.settings.task.validate_only is not None:
            raise UserError("--validate-only takes one fold at a time.")
        try:
            together = cross_validate(self.settings, self.folds, self._train_or_stop)
        except FoldEndedError as end:
            return end.exit_code
        if not self.json:
            for table in tables(together.result):
                print_table(table.title, table.columns, table.rows)
        summary = {
            "folds": list(together.folds),
            "cross_validation_dsc": together.result.report.mean,
            "report": str(together.report),
            "model": str(together.model),
            "next": f"stunet predict -m {together.model} -i SCAN.nii.gz -o LABELS.nii.gz",
        }
        print_summary("Cross-validated", summary, self.json)
        return 0

    def _train_or_stop(self, settings: TrainingSettings) -> None:
        MESSAGES.print(f"Fold {settings.task.fold}")
        options = {**vars(self), "settings": settings, "folds": (settings.task.fold,)}
        if code := FoldOfSeveral(**options)._train_fold(settings):
            raise FoldEndedError(code)

    def _train(self, settings: TrainingSettings) -> int:
        from stunet.training.parallel import is_first_rank
        from stunet.training.run import train
        from stunet.training.stopping import TrainingStopped

        task = settings.task
        try:
            with stdout_to_stderr(), training_progress() as on_step:
                result = train(settings, on_step, print_transfer, self._print_recipe)
        except TrainingStopped as stop:
            MESSAGES.print(f"stunet: {stop}", soft_wrap=True)
            return stop.exit_code
        absent = [label for label, dsc in result.dsc_per_label.items() if dsc is None]
        if absent:
            MESSAGES.print(f"No case of this fold has the label {', '.join(absent)}; the mean leaves it out.")
        if is_first_rank():
            self._print_result(result, task.fold)
        return 0

    def _print_result(self, result: "TrainingResult", fold: int | str) -> None:
        scored = "dsc_on_training_cases" if fold == "all" else "validation_dsc"
        summary = {
            "model_folder": str(result.model_folder),
            scored: result.validation_dsc,
            "dsc_per_label": result.dsc_per_label,
            "seconds": round(result.seconds, 1),
            "next": f"stunet predict -m {result.model_folder} -f {fold} -i SCAN.nii.gz -o LABELS.nii.gz",
        }
        print_summary("Trained", summary, self.json)

    def _print_recipe(self) -> None:
        """Print the recipe, once it is certain that the training can start."""
        from stunet.training.recipes import recipe_for

        MESSAGES.print("Recipe", *recipe_for(self.settings).lines(), sep="\n  ")
        if (model := self.settings.start.model) is not None and self.settings.task.resume:
            MESSAGES.print(f"The run continues from its own checkpoint; {model} was read at its start.")


class FoldOfSeveral(Train):
    """One fold of a cross-validation. The result is printed once, after all folds."""

    def _print_result(self, result: "TrainingResult", fold: int | str) -> None:
        """Nothing yet."""


class FoldEndedError(Exception):
    """A fold was stopped, or failed in child processes, which have printed why."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code


def train_on_one_gpu(command: Train) -> int:
    """Runs in each of several processes. Errors become a message and an exit code, as for any command."""
    return carry_out(lambda: command)
