"""Cross-validation: which folds are left to train, and how trained folds become one score table and one model."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from stunet.errors import FileError, UserError, listed
from stunet.evaluation.bootstrap import Bootstrap
from stunet.evaluation.case_scores import CasePair, EvaluationConfig
from stunet.evaluation.formats import write_report
from stunet.evaluation.report import OnCase, score_pairs
from stunet.evaluation.result import EvaluationResult, conclude
from stunet.folders import nnunet_folders
from stunet.imaging.formats.registry import is_image_file, without_suffix
from stunet.plans.labels import read_label_table
from stunet.training import MAX_PROCESSES
from stunet.training.preprocessing import TRUTH_FOLDER
from stunet.training.recipes import recipe_for
from stunet.training.resuming import RECORD_NAME, checkpoint_to_resume, is_begun, require_started_alike
from stunet.training.run import decided, fold_folder
from stunet.training.settings import TrainingSettings
from stunet.weights.folds import Fold
from stunet.weights.import_model import import_model
from stunet.weights.model_file import save_model


@dataclass(frozen=True)
class CrossValidation:
    """Several trained folds.

    Attributes:
        folds: the folds.
        model: one file with the networks of all folds. Prediction averages their logits.
        report: JSON file with the scores; the file of the same name with `.md` has the tables.
        result: the scores. Each case was segmented by the one fold that did not train on it.
    """

    folds: tuple[Fold, ...]
    model: Path
    report: Path
    result: EvaluationResult


def cross_validate(
    settings: TrainingSettings,
    folds: Sequence[Fold],
    train_fold: Callable[[TrainingSettings], None],
    on_case: OnCase = lambda done, total: None,
) -> CrossValidation:
    """Train the folds one after the other, then join them. With `resume`, finished folds are kept.

    Args:
        settings: for every fold; their own fold is ignored.
        folds: of nnU-Net's split, each once.
        train_fold: trains one fold, such as `stunet.training.run.train`.
        on_case: called while cases are scored, with the number scored and the total.

    Raises:
        UserError: the folds cannot be validated together, a fold already has a run, or as `train`.
        TrainingStopped: as `train`.
    """
    settings = decided(settings)
    for of_fold in left_to_train(settings, folds):
        train_fold(of_fold)
    return join_folds(settings, folds, on_case)


def left_to_train(settings: TrainingSettings, folds: Sequence[Fold]) -> list[TrainingSettings]:
    """The settings of each unfinished fold. Folds already begun are resumed if `settings` say so.

    Raises:
        UserError: "all" or a fold twice, an existing run that is not to be resumed, or one with other settings.
    """
    if "all" in folds or len(set(folds)) < len(folds):
        raise UserError(f"Give each fold once, by its number, not {listed([str(fold) for fold in folds])}.")
    recipe, left = recipe_for(settings), []
    for fold in folds:
        of_fold = replace(settings, task=replace(settings.task, fold=fold))
        folder = fold_folder(of_fold)
        if not settings.task.resume:
            checkpoint_to_resume(folder, of_fold, recipe)
        elif is_begun(folder):
            require_started_alike(folder, of_fold, recipe)
            if _is_finished(folder, recipe.epochs):
                continue
        else:
            of_fold = replace(of_fold, task=replace(of_fold.task, resume=False))
        left.append(of_fold)
    return left


def _is_finished(folder: Path, epochs: int) -> bool:
    """Whether the fold was trained for this many epochs and validated."""
    try:
        record = json.loads((folder / RECORD_NAME).read_text())
        return bool(record["finished"]) and int(record["settings"]["recipe"]["epochs"]) >= epochs
    except (OSError, ValueError, KeyError):
        return False


def join_folds(
    settings: TrainingSettings, folds: Sequence[Fold], on_case: OnCase = lambda done, total: None
) -> CrossValidation:
    """Score the validation cases of all folds together, and write the folds into one model file.

    Args:
        settings: of any of the folds.
        folds: trained folds.
        on_case: called with the number of cases scored and the total.

    Raises:
        UserError: a fold is not trained or not validated, a case is in two folds, or files cannot be written.
    """
    settings = decided(settings)
    folders = [fold_folder(replace(settings, task=replace(settings.task, fold=fold))) for fold in folds]
    model_folder = folders[0].parent
    truth = nnunet_folders().preprocessed / model_folder.parent.name / TRUTH_FOLDER
    table = read_label_table(model_folder / "dataset.json")
    workers = min(MAX_PROCESSES, os.cpu_count() or 1)
    config = EvaluationConfig(members=table.members, ignored=table.ignored, workers=workers)
    report = score_pairs(list(_validated_cases(folders, truth)), table.names, config, on_case)
    numbers = "_".join(str(fold) for fold in folds)
    result = conclude(f"folds {numbers.replace('_', ', ')}", report, bootstrap=Bootstrap(seed=settings.task.seed))
    written = model_folder / f"cross_validation_{numbers}.json"
    for path in (written, written.with_suffix(".md")):
        write_report(result, path)
    model = model_folder / f"folds_{numbers}.safetensors"
    save_model(model, *import_model(model_folder, folds=folds))
    return CrossValidation(tuple(folds), model, written, result)


def _validated_cases(folders: Sequence[Path], truth: Path) -> Iterator[CasePair]:
    """The predictions of nnU-Net's validation of each fold, with their references."""
    seen: dict[str, str] = {}
    for folder in folders:
        predictions = sorted(path for path in (folder / "validation").glob("*") if is_image_file(path))
        if not predictions:
            raise FileError(f"{folder} has no validation. Finish training the fold, or add --validate-only last.")
        for prediction in predictions:
            case = without_suffix(prediction)
            if case in seen:
                raise FileError(f"Case {case} was validated in {seen[case]} and in {folder.name}; the folds overlap.")
            seen[case] = folder.name
            yield CasePair(case, prediction, truth / prediction.name)
