"""Runs that train one system on one selection of cases, validate it, and score its predictions."""

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


@dataclass(frozen=True)
class TrainingSchedule:
    """Length and learning rate of a training. None uses the training recipe's value, see `stunet.training.recipes`.

    Attributes:
        recipe: "pretrain" or "finetune"; None trains from scratch with the network's own recipe.
        epochs: each learning rate decays over them.
        iterations: per epoch.
        learning_rate: the initial one.
        mirror: augment by mirroring.
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
    """Trains a system and scores the predictions of nnU-Net's final validation.

    Attributes:
        key: name of the run.
        system: name in the paper.
        network: a name that `build_network` knows.
        cases: to train and validate on.
        targets: columns of the table.
        schedule: length and learning rate.
        start: a model to fine-tune: a name in the catalogue or a file; None starts from random weights.
        after: key of the run in this experiment whose model is fine-tuned; None if there is none.
        fraction: fraction of the training cases, one of `cases.fractions`; None uses all.
        setting: settings of the measurements besides system and target.
        plan: "nnunet" or "published"; see `stunet.training.prepare`.
        classes: of the dataset, including background, to estimate the cost.
        channels: of the images, to estimate the cost.
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
        """Dataset names for `--data`."""
        return self.cases.datasets

    def gpu_hours(self) -> float:
        """Estimated hours of the training; see `stunet.experiments.gpu_hours`."""
        iterations = self.schedule.epochs * self.schedule.iterations
        return training_hours(self.network, iterations, self.classes, self.channels)

    def expected(self) -> Sequence[Measurement]:
        """The paper's value for each target."""
        return [
            measured(self.system, "DSC", None, target.expected, target.name, self.setting) for target in self.targets
        ]

    def measure(self, workplace: Workplace) -> Sequence[Measurement]:
        """Prepare, train, validate and score.

        Raises:
            UserError: data are missing or bad, or a run that must come first was not done.
            TrainingStopped: SIGTERM or Ctrl-C was received; a checkpoint was saved.
        """
        from stunet.training.prepare import prepare

        dataset = make_dataset(self.cases, workplace.data, workplace.folder / "raw")
        results = run_folder(workplace.folder, self.key)
        with nnunet_folders_at(workplace.folder, results):
            prepare(dataset.name, self.network, CONFIGURATION, plan=self.plan)
            fold = fold_of(self.fraction, dataset)
            summaries = results.glob(f"{dataset.name}/*/fold_{fold}/validation/summary.json")  # nnU-Net writes it last
            if not (workplace.resume and any(summaries)):
                _train(self.settings(dataset.name, fold, workplace), workplace.gpus)
        report = score_validation(dataset, fold_folder(results, dataset.name, fold), results)
        return dsc_of_targets(report, self.system, self.targets, self.setting)

    def settings(self, dataset: str, fold: int, workplace: Workplace) -> "TrainingSettings":
        """The settings of `stunet train`."""
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
    """The model folder that a run of an experiment created.

    Raises:
        UserError: it does not exist.
    """
    trained = sorted(run_folder(folder, key).glob("Dataset*/*/fold_*/checkpoint_final.pth"))
    if not trained:
        raise FileError(f"The model of the run {key} is missing: run it first.")
    return trained[0].parents[1]


def run_folder(folder: Path, key: str) -> Path:
    """The folder with the model and predictions of a run."""
    return folder / "models" / key


def fold_folder(results: Path, dataset: str, fold: int) -> Path:
    """nnU-Net's fold folder of the only model in a run's folder.

    Raises:
        UserError: there is none.
    """
    found = sorted(results.glob(f"{dataset}/*/fold_{fold}"))
    if not found:
        raise FileError(f"{results} has no model of {dataset}, fold {fold}.")
    return found[0]


@contextmanager
def nnunet_folders_at(folder: Path, results: Path) -> Iterator[None]:
    """Temporarily point nnU-Net to raw and preprocessed data under `folder` and to models in `results`."""
    before = {name: os.environ.get(name) for name in FOLDER_VARIABLES}
    places = (folder / "raw", folder / "preprocessed", results)
    os.environ.update({name: str(place) for name, place in zip(FOLDER_VARIABLES, places, strict=True)})
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ.update({} if value is None else {name: value})


def score_validation(dataset: Path, fold: Path, folder: Path) -> "EvaluationReport":
    """Score the predictions of nnU-Net's validation anew from the label maps.

    Args:
        dataset: raw folder, made by `make_dataset`.
        fold: the fold's folder.
        folder: for links to the references.
    """
    from stunet.evaluation.case_scores import EvaluationConfig
    from stunet.evaluation.report import evaluate
    from stunet.plans.raw_dataset import read_raw_dataset

    references = made_folder(folder / "references")
    for path in validation_labels(dataset).values():
        link = references / path.name
        if not link.is_symlink():
            link.symlink_to(path.resolve())
    labels = read_raw_dataset(dataset).labels
    config = EvaluationConfig(members=labels.members, ignored=labels.ignored)
    return evaluate(fold / "validation", references, labels.names, config)


def _was_begun(results: Path, dataset: str, fold: int) -> bool:
    from stunet.training.checkpoint_folder import newest

    return any(newest(folder) is not None for folder in results.glob(f"{dataset}/*/fold_{fold}"))


def _train(settings: "TrainingSettings", gpus: int) -> None:
    """Train in this process, or in one process per GPU.

    Raises:
        UserError: as `stunet.training.run.train`.
        TrainingStopped: SIGTERM or Ctrl-C was received; a checkpoint was saved.
        RuntimeError: one of several processes failed; it has printed why.
    """
    from stunet.training.launch import launch
    from stunet.training.stopping import EXIT_CODES, TrainingStopped

    several = gpus > 1
    code = launch(train_and_exit, settings, processes=gpus) if several else train_and_exit(settings)
    if code in EXIT_CODES:
        raise TrainingStopped("The training was stopped and is saved. Continue with --resume.", code)
    if code:
        raise RuntimeError(f"the training on {gpus} GPUs ended with exit code {code}")


def train_and_exit(settings: "TrainingSettings") -> int:
    """Train and return the exit code. Runs in this process, or in each of several."""
    from stunet.training.run import train
    from stunet.training.stopping import TrainingStopped

    try:
        train(settings)
    except TrainingStopped as stop:
        return stop.exit_code
    return 0
