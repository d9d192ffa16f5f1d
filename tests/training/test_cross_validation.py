"""Several folds by one command, on ten real cases, against nnU-Net's own summary of a cross-validation."""

import json

import numpy as np
import pytest
from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from stunet.errors import FileError, UserError
from stunet.evaluation.formats import as_json
from stunet.imaging.formats.registry import read_volume
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.training.cross_validation import cross_validate, left_to_train
from stunet.training.run import train
from stunet.weights.model import load_model
from stunet.weights.model_file import read_card
from tests.training.conftest import DATASET, environment
from tests.training.options import changed, settings_of

SETTINGS = settings_of("tiny", epochs=1, iterations_per_epoch=1, precision="float32", picture_every=0, seed=3)
FOLDS = (0, 1, 2)


class KilledError(Exception):
    """The machine went down."""


@pytest.fixture(scope="module")
def results(prepared_home, tmp_path_factory):
    """Prepared data, and results of their own."""
    folder = tmp_path_factory.mktemp("results")
    with environment(prepared_home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(folder))
        yield folder


@pytest.fixture(scope="module")
def together(results):
    """Three folds; the machine goes down after the first, and the same command with --resume trains the others."""
    trained = []

    def train_fold(settings):
        if len(trained) == 1:
            raise KilledError
        trained.append(settings.task.fold)
        train(settings)

    with pytest.raises(KilledError):
        cross_validate(SETTINGS, FOLDS, train_fold)
    trained.append("resumed")
    together = cross_validate(changed(SETTINGS, resume=True), FOLDS, train_fold)
    assert trained == [0, "resumed", 1, 2]
    return together


def test_its_scores_are_nnunets(together, results, prepared_home, tmp_path):
    (model_folder,) = (results / DATASET).iterdir()
    for fold in FOLDS:
        for prediction in (model_folder / f"fold_{fold}" / "validation").glob("*.nii.gz"):
            (tmp_path / prediction.name).symlink_to(prediction)
    truth = prepared_home / "preprocessed" / DATASET / "gt_segmentations"
    theirs = compute_metrics_on_folder(
        str(truth), str(tmp_path), str(tmp_path / "summary.json"), SimpleITKIO(), ".nii.gz", [1, 2], num_processes=1
    )
    report = together.result.report
    assert len(report.cases) == len(theirs["metric_per_case"]) == 6
    assert report.mean == pytest.approx(theirs["foreground_mean"]["Dice"], abs=1e-9)
    for label in (1, 2):
        assert report.per_label[label] == pytest.approx(theirs["mean"][label]["Dice"], abs=1e-9)


def test_its_files(together):
    assert json.loads(together.report.read_text()) == json.loads(as_json(together.result))
    assert "| Anterior |" in together.report.with_suffix(".md").read_text()
    assert read_card(together.model).members == 3


def test_the_file_predicts_as_its_folds_do(together, shared_data):
    scan = read_volume(sorted((shared_data / DATASET / "imagesTr").glob("*.nii.gz"))[0])
    config = InferenceConfig(backend="torch", precision="float32")
    one_file = Predictor(together.model, config).predict(scan)
    folder = Predictor(load_model(together.model.parent, FOLDS), config).predict(scan)
    np.testing.assert_array_equal(one_file.labels, folder.labels)
    assert len(np.unique(one_file.labels)) > 1


def test_what_is_finished_is_not_trained_again(together):
    again = changed(SETTINGS, resume=True)
    assert left_to_train(again, FOLDS) == []
    assert [s.task.fold for s in left_to_train(changed(again, epochs=2), FOLDS)] == [0, 1, 2]
    assert [(s.task.fold, s.task.resume) for s in left_to_train(again, (2, 3))] == [(3, False)]


def test_a_fold_that_is_there_is_not_overwritten(together):
    with pytest.raises(UserError, match=r"fold_2 already contains stunet_checkpoint"):
        left_to_train(SETTINGS, (3, 2))


def test_folds_of_another_seed_are_not_joined(together):
    with pytest.raises(UserError, match="was started with seed 3, not 4"):
        left_to_train(changed(SETTINGS, resume=True, seed=4), FOLDS)


@pytest.mark.parametrize("folds", [(0, 0), ("all", 1)])
def test_folds_that_cannot_be_validated_together(results, folds):
    with pytest.raises(UserError, match="Give each fold once"):
        left_to_train(SETTINGS, folds)


def test_a_fold_without_validation(together):
    with pytest.raises(FileError, match=r"fold_4 has no validation"):
        cross_validate(SETTINGS, (4, 3), lambda settings: None)
