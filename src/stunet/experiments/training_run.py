"""Runs that train one system on one choice of cases, validate it, and score what it predicted."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from stunet.errors import FileError
from stunet.experiments.experiment import Workplace, measured
from stunet.experiments.gpu_hours import training_hours
from stunet.experiments.results import Measurement, Setting
from stunet.experiments.scores import ScoredTarget, dsc_of_targets
from stunet.experiments.training_cases import TrainingCases, fold_of, make_dataset, validation_labels
from stunet.files import made_folder

if TYPE_CHECKING:
    from stunet.evaluation.report import EvaluationReport
    from stunet.training.settings import TrainingSettings

CONFIGURATION = "3d_fullres"

FOLDER_VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")

KEPT_VARIABLES = (*FOLDER_VARIABLES, "nnUNet_n_proc_DA")
"""What a training sets in the environment; the next run's planning would stumble over no workers."""


@dataclass(frozen=True)
class TrainingSchedule:
    """How long and how fast; what is None is the training recipe's own, see `stunet.training.recipes`.

    Attributes:
        recipe: "pretrain" or "finetune"; None trains the network from scratch, by the recipe of its kind.
        epochs: each learning rate decays over them.
        iterations: in an epoch.
        learning_rate: the first one.
        mirror: augment by mirrored copies.
        patch: voxels (Z, Y, X) of an image in a batch.
    """

    recipe: Literal["pretrain", "finetune"] | None = None
    epochs: int = 1000
    iterations: int = 250
    learning_rate: float | None = None
    mirror: bool | None = None
    patch: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class TrainingRun:
    """Trains a system and scores it on the validation cases, as nnU-Net's last validation predicts them.

    Attributes:
        key: name of the run.
        system: as the paper names it.
        network: a name that `build_network` knows.
        cases: to train and to validate on.
        targets: columns of the table.
        schedule: how long and how fast.
        start: a model to fine-tune: a name of the catalogue or a file; None starts with random weights.
        after: key of the run of this experiment whose model is fine-tuned; None where it is not another run's.
        fraction: share of the training cases, one of `cases.fractions`; None takes all.
        setting: what the measurements say besides system and target.
        plan: "nnunet" or "published"; see `stunet.training.prepare`.
        classes: of the dataset, background included, for the estimate of the cost.
        channels: of the images, for the same.
        seed: of weights and batches.
    """

    key: str
    system: str
    network: str
    cases: TrainingCases
    targets: tuple[ScoredTarget, ...] = (ScoredTarget(),)
    schedule: TrainingSchedule = TrainingSchedule()
    start: str | None = None
    after: str | None = None
    fraction: float | None = None
    setting: Setting = field(default_factory=dict)
    plan: Literal["nnunet", "published"] = "nnunet"
    classes: int = 105
    channels: int = 1
    seed: int = 0

    @property
    def datasets(self) -> tuple[str, ...]:
        """Names for `--data`."""
        return self.cases.datasets

    def gpu_hours(self) -> float:
        """Of the training; see `stunet.experiments.gpu_hours`."""
        iterations = self.schedule.epochs * self.schedule.iterations
        return training_hours(self.network, iterations, self.classes, self.channels)

    def expected(self) -> Sequence[Measurement]:
        """What the paper prints for each target."""
        return [
            measured(self.system, "DSC", None, target.expected, target.name, self.setting) for target in self.targets
        ]

    def measure(self, workplace: Workplace) -> Sequence[Measurement]:
        """Prepares, trains, validates, scores.

        Raises:
            UserError: data that are missing or bad, or a run that must be done before.
            TrainingStopped: SIGTERM or Ctrl-C came; a checkpoint was saved.
        """
        from stunet.training.prepare import prepare

        dataset = make_dataset(self.cases, workplace.data, workplace.folder / "raw")
        results = run_folder(workplace.folder, self.key)
        with nnunet_folders_at(workplace.folder, results):
            prepare(dataset.name, self.network, CONFIGURATION, plan=self.plan)
            fold = fold_of(self.fraction, dataset)
            summaries = results.glob(f"{dataset.name}/*/fold_{fold}/validation/summary.json")  # nnU-Net's last file
            if not (workplace.resume and any(summaries)):
                _train(self.settings(dataset.name, fold, workplace), workplace.gpus)
        report = score_validation(dataset, fold_folder(results, dataset.name, fold), results)
        return dsc_of_targets(report, self.system, self.targets, self.setting)

    def settings(self, dataset: str, fold: int, workplace: Workplace) -> "TrainingSettings":
        """What `stunet train` would be told."""
        from stunet.training import settings as options
        from stunet.training.recipes import recipe_of

        asked, folder = self.schedule, workplace.folder
        resume = workplace.resume and _was_begun(run_folder(folder, self.key), dataset, fold)
        return options.TrainingSettings(
            options.TaskSettings(dataset, fold, self.network, CONFIGURATION, self.plan, self.seed, resume),
            options.StartSettings(self.start if self.after is None else str(trained_model(folder, self.after))),
            options.ScheduleSettings(
                recipe=asked.recipe or recipe_of(self.network).name,
                epochs=asked.epochs,
                iterations_per_epoch=asked.iterations,
                learning_rate=asked.learning_rate,
                patch=asked.patch,
            ),
            options.AugmentationSettings(mirror=asked.mirror is not False),
            options.HardwareSettings(device="cuda" if workplace.gpus else "cpu", workers=None if workplace.gpus else 0),
            options.LoggingSettings(picture_every=0),
        )


def trained_model(folder: Path, key: str) -> Path:
    """The model folder that a run of an experiment left.

    Raises:
        UserError: it is not there.
    """
    trained = sorted(run_folder(folder, key).glob("Dataset*/*/fold_*/checkpoint_final.pth"))
    if not trained:
        raise FileError(f"The model of the run {key} is needed, which is not there: run it first.")
    return trained[0].parents[1]


def run_folder(folder: Path, key: str) -> Path:
    """Where a run of an experiment keeps its model and its predictions."""
    return folder / "models" / key


def fold_folder(results: Path, dataset: str, fold: int) -> Path:
    """nnU-Net's folder of the one model that a run's folder holds.

    Raises:
        UserError: there is none.
    """
    found = sorted(results.glob(f"{dataset}/*/fold_{fold}"))
    if not found:
        raise FileError(f"{results} holds no model of {dataset}, fold {fold}.")
    return found[0]


@contextmanager
def nnunet_folders_at(folder: Path, results: Path) -> Iterator[None]:
    """Within, nnU-Net has raw and preprocessed data under `folder`, models in `results`; then all is as before."""
    before = {name: os.environ.get(name) for name in KEPT_VARIABLES}
    places = (folder / "raw", folder / "preprocessed", results)
    os.environ.update({name: str(place) for name, place in zip(FOLDER_VARIABLES, places, strict=True)})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def score_validation(dataset: Path, fold: Path, folder: Path) -> "EvaluationReport":
    """Scores of what nnU-Net's validation predicted, computed anew from the label maps.

    Args:
        dataset: raw folder, made by `make_dataset`.
        fold: the fold's folder.
        folder: in which links to the references are put.
    """
    from stunet.datasets.raw import label_values, read_dataset_description
    from stunet.evaluation.report import evaluate

    references = made_folder(folder / "references")
    for path in validation_labels(dataset).values():
        link = references / path.name
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    names = label_values(read_dataset_description(dataset))
    return evaluate(fold / "validation", references, {label: name for label, name in names.items() if label > 0})


def _was_begun(results: Path, dataset: str, fold: int) -> bool:
    from stunet.training.checkpoint_folder import newest

    return any(newest(folder) is not None for folder in results.glob(f"{dataset}/*/fold_{fold}"))


def _train(settings: "TrainingSettings", gpus: int) -> None:
    """Train in this process, or in as many as there are to be GPUs.

    Raises:
        UserError: as `stunet.training.run.train`.
        TrainingStopped: SIGTERM or Ctrl-C came; a checkpoint was saved.
        RuntimeError: one of several processes failed; it has said why.
    """
    from stunet.training.launch import launch
    from stunet.training.stopping import EXIT_CODES, TrainingStopped

    several = gpus > 1
    code = launch(train_and_exit, settings, processes=gpus) if several else train_and_exit(settings)
    if code in EXIT_CODES:
        raise TrainingStopped("The training was told to stop and has saved itself. Continue with --resume.", code)
    if code:
        raise RuntimeError(f"the training on {gpus} GPUs ended with exit code {code}")


def train_and_exit(settings: "TrainingSettings") -> int:
    """What this process, or each of several, does."""
    from stunet.training.run import train
    from stunet.training.stopping import TrainingStopped

    try:
        train(settings)
    except TrainingStopped as stop:
        return stop.exit_code
    return 0
