"""Training runs, end to end: a very small network, two iterations, real images."""

import json
from functools import partial

import pytest

pytest.importorskip("nnunetv2")

from stunet.evaluation.report import evaluate
from stunet.experiments.experiment import Experiment, Workplace
from stunet.experiments.figures import plot, row_of
from stunet.experiments.median_cases import median_cases
from stunet.experiments.mini_data import HIPPOCAMPUS, HIPPOCAMPUS_TARGETS
from stunet.experiments.panel_cases import panel_cases_of
from stunet.experiments.results import read_results
from stunet.experiments.run import run_experiment
from stunet.experiments.scores import ScoredTarget
from stunet.experiments.training_cases import Split, TrainingCases
from stunet.experiments.training_run import TrainingRun, TrainingSchedule
from stunet.training.recipes import recipe_for
from tests.training.conftest import environment

CASES = TrainingCases(
    4, "Hippocampus", "hippocampus", Split(HIPPOCAMPUS.split.train[:4], HIPPOCAMPUS.split.val[:1]), fractions=(0.5, 1.0)
)
TARGETS = (*HIPPOCAMPUS_TARGETS, ScoredTarget("Hippocampus"))
SHORT = TrainingSchedule(epochs=1, iterations=2, mirror=False)  # without mirrored copies in the validation, too
RUNS = (
    TrainingRun("scratch", "STU-Net, tiny", "tiny", CASES, TARGETS, SHORT, classes=3),
    TrainingRun(
        "fine-tuned",
        "STU-Net, tiny, ft",
        "tiny",
        CASES,
        TARGETS,
        TrainingSchedule("finetune", epochs=1, iterations=2, mirror=False),
        after="scratch",
        fraction=0.5,
        setting={"fraction": 0.5},
        classes=3,
    ),
)
SYSTEMS = tuple(run.system for run in RUNS)
PICTURES_OF_BOTH = partial(median_cases, systems=SYSTEMS, datasets=["Hippocampus"])
EXPERIMENT = Experiment("figure3", "Title", "Claim.", "Table 9", RUNS, (), pictures=PICTURES_OF_BOTH)


@pytest.fixture(scope="module")
def done(shared_data, tmp_path_factory):
    """Folder and results of both runs."""
    folder = tmp_path_factory.mktemp("experiment")
    data = {"hippocampus": shared_data / "Dataset004_Hippocampus"}
    with environment(tmp_path_factory.mktemp("home")):
        yield folder, run_experiment(EXPERIMENT, "full", Workplace(folder, data))


def test_both_runs_are_scored_on_the_case_kept_apart(done):
    _, results = done
    assert [(m.system, m.target) for m in results.measurements] == [
        (system, target)
        for system in ("STU-Net, tiny", "STU-Net, tiny, ft")
        for target in ("Anterior", "Posterior", "all", "Hippocampus")
    ]
    for measurement in results.measurements:
        assert set(measurement.cases) == {HIPPOCAMPUS.split.val[0]}
    *labels, everything, dataset = (m.value for m in results.measurements[:4])
    assert dataset == everything == pytest.approx(sum(labels) / 2)


def test_the_scores_are_those_of_nnunets_own_validation(done):
    folder, results = done
    (summary,) = folder.glob("models/scratch/Dataset*/*/fold_0/validation/summary.json")
    theirs = json.loads(summary.read_text())
    assert results.measurements[2].value == pytest.approx(theirs["foreground_mean"]["Dice"], abs=1e-6)
    report = evaluate(summary.parent, folder / "models/scratch/references", {1: "Anterior", 2: "Posterior"})
    assert results.measurements[0].value == report.per_label[1]


def test_a_run_follows_its_schedule_and_its_share(done):
    folder, _ = done
    (record,) = folder.glob("models/fine-tuned/Dataset*/*/fold_1/stunet_run.json")
    settings = json.loads(record.read_text())["settings"]
    assert (settings["fold"], settings["recipe"]["iterations_per_epoch"], settings["recipe"]["mirror"]) == (1, 2, False)
    assert settings["recipe"]["body_learning_rate_factor"] == 0.1
    assert "models/scratch" in settings["start"]["model"]
    folds = json.loads((folder / "raw/Dataset004_Hippocampus/splits_final.json").read_text())
    assert len(folds[1]["train"]) == 2


def test_figure_3_shows_what_both_predicted(done):
    folder, results = done
    (case,) = panel_cases_of(read_results(folder / "results.json"), folder)
    validated = HIPPOCAMPUS.split.val[0]
    assert (case.case, case.target, dict(case.names)) == (validated, "Hippocampus", {1: "Anterior", 2: "Posterior"})
    row = row_of(case, results)
    assert row.dsc == {m.system: m.value for m in results.measurements if m.target == "Hippocampus"}
    for system, fold in zip(SYSTEMS, (0, 1), strict=True):
        (predicted,) = folder.glob(f"models/*/Dataset*/*/fold_{fold}/validation/{validated}.nii.gz")
        assert case.predictions[system] == predicted
    assert {path.name for path in plot(folder / "results.json", folder)} == {"figure3.pdf", "figure3.png"}


def test_what_is_done_is_not_trained_again(done, shared_data, monkeypatch):
    folder, results = done
    monkeypatch.setattr("stunet.training.run.train", lambda *_: pytest.fail("trained again"))
    (folder / "runs/scratch.json").unlink()
    data = {"hippocampus": shared_data / "Dataset004_Hippocampus"}
    again = run_experiment(EXPERIMENT, "full", Workplace(folder, data, resume=True))
    assert again.measurements == results.measurements


def test_nnunets_variables_are_put_back(done, monkeypatch):
    import os

    from stunet.experiments.training_run import nnunet_folders_at

    monkeypatch.setenv("nnUNet_raw", "before")
    monkeypatch.delenv("nnUNet_results", raising=False)
    with nnunet_folders_at(done[0], done[0] / "models"):
        assert os.environ["nnUNet_results"] == str(done[0] / "models")
    assert os.environ["nnUNet_raw"] == "before" and "nnUNet_results" not in os.environ


def test_the_training_settings_of_a_baseline(tmp_path):
    run = TrainingRun("unetr", "UNETR", "unetr_tiny", CASES)
    settings = run.settings("Dataset004_Hippocampus", 0, Workplace(tmp_path, {}, gpus=2))
    recipe = recipe_for(settings)
    assert (settings.task.size, settings.hardware.device, recipe.optimizer) == ("unetr_tiny", "cuda", "adamw")
    assert recipe.iterations == 250_000
