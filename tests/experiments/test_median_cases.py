"""The cases of a qualitative figure are neither the best nor the worst; what was not run is left out."""

import json

import pytest

from stunet.experiments.median_cases import median_cases
from stunet.experiments.results import Measurement
from stunet.experiments.training_cases import TrainingCases
from stunet.experiments.training_run import TrainingRun

AMOS, AUTOPET = TrainingCases(23, "AMOS", "amos22"), TrainingCases(26, "AutoPET", "autopet22")
RUNS = tuple(
    TrainingRun(f"{system}-{cases.source}", system, "tiny", cases) for cases in (AMOS, AUTOPET) for system in "AB"
)


def scores(system, dataset, values):
    return Measurement(system, "DSC", 0.5, dataset, cases={f"case_{i}": value for i, value in enumerate(values)})


@pytest.fixture
def folder(tmp_path):
    """Both datasets with five cases; A has predicted all, B none."""
    for cases in (AMOS, AUTOPET):
        dataset = tmp_path / "raw" / cases.folder_name
        validation = tmp_path / f"models/A-{cases.source}/{dataset.name}/trainer/fold_0/validation"
        for part in (dataset / "imagesTr", dataset / "labelsTr", validation):
            part.mkdir(parents=True)
        for number in range(5):
            (dataset / f"imagesTr/case_{number}_0000.nii.gz").touch()
            (dataset / f"labelsTr/case_{number}.nii.gz").touch()
            (validation / f"case_{number}.nii.gz").touch()
        description = {"labels": {"background": 0, "liver": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
        (dataset / "dataset.json").write_text(json.dumps({**description, "numTraining": 5}))
    return tmp_path


def chosen(folder, measurements, runs=RUNS):
    return median_cases(runs, measurements, folder, ["B", "A"], ["AutoPET", "AMOS"])


@pytest.mark.parametrize(
    ("of_a", "of_b", "case"),
    [
        ((0.1, 0.9, 0.5, 0.7, 0.3), (0.1, 0.9, 0.5, 0.7, 0.3), "case_2"),
        ((0.1, 0.9, 0.5, 0.7, 0.3), (0.9, 0.9, 0.3, 0.0, 0.2), "case_2"),  # means 0.5, 0.9, 0.4, 0.35, 0.25
        ((0.1, 0.9, 0.5, 0.7, None), (0.1, 0.9, 0.5, 0.7, 0.3), "case_2"),  # four are left: the lower in the middle
        ((0.1, 0.9), (0.1, 0.9, 1.0, 1.0, 1.0), "case_0"),  # that both have
    ],
)
def test_the_case_is_in_the_middle_by_the_mean_of_the_systems(of_a, of_b, case, folder):
    found = chosen(folder, [scores("A", "AMOS", of_a), scores("B", "AMOS", of_b), scores("C", "AMOS", (0, 0, 0, 0, 1))])
    assert [picture.case for picture in found] == [case]


def test_a_row_names_its_files_and_what_is_there_of_each_system(folder):
    values = (0.1, 0.9, 0.5, 0.7, 0.3)
    found = chosen(folder, [scores("A", "AMOS", values), scores("A", "AutoPET", values[::-1])])
    assert [picture.title for picture in found] == ["AutoPET", "AMOS"]
    picture = found[1]
    assert picture.target == "AMOS" and picture.names == {1: "liver"}
    assert picture.image == folder / "raw/Dataset023_AMOS/imagesTr/case_2_0000.nii.gz"
    assert picture.reference == folder / "raw/Dataset023_AMOS/labelsTr/case_2.nii.gz"
    prediction = folder / "models/A-amos22/Dataset023_AMOS/trainer/fold_0/validation/case_2.nii.gz"
    assert picture.predictions == {"A": prediction}


def test_nothing_is_shown_of_what_was_not_run(folder):
    values = (0.1, 0.9, 0.5, 0.7, 0.3)
    assert chosen(folder, []) == []
    assert chosen(folder, [scores("A", "AMOS", values)], runs=()) == []
    assert chosen(folder, [scores("A", "AMOS", (None,) * 5)]) == []
