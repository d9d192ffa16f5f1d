"""The data of minis: the lists of cases, where they are found, and the single CT as a dataset."""

import json

import pytest

from stunet.errors import UserError
from stunet.experiments.mini_data import ABDOMEN, FOLDERS, HIPPOCAMPUS, STSPET, data_with_minis, short
from stunet.experiments.training_cases import make_dataset
from stunet.experiments.training_run import TrainingSchedule


@pytest.mark.parametrize("cases", [HIPPOCAMPUS, STSPET], ids=lambda cases: cases.name)
def test_the_cases_are_those_of_the_published_lists(cases, shared_data):
    listed = json.loads((shared_data / FOLDERS[cases.source] / "mini.json").read_text())
    assert (list(cases.split.train), list(cases.split.val)) == (listed["train"], listed["val"])


def test_what_is_not_given_is_found_where_the_variable_says(shared_data, monkeypatch, tmp_path):
    monkeypatch.setenv("STUNET_SHARED", str(shared_data.parent))
    data = data_with_minis({"stspet": tmp_path / "mine"}, tmp_path)
    assert data["hippocampus"] == shared_data / "Dataset004_Hippocampus"
    assert data["stspet"] == tmp_path / "mine"
    monkeypatch.delenv("STUNET_SHARED")
    assert data_with_minis({}, tmp_path) == {}


def test_the_single_ct_becomes_a_dataset(shared_data, monkeypatch, tmp_path):
    monkeypatch.delenv("STUNET_SHARED", raising=False)
    data = data_with_minis({"totalseg_example": shared_data / "totalseg_example"}, tmp_path)
    made = make_dataset(ABDOMEN, data, tmp_path / "raw")
    assert {path.name for path in (made / "labelsTr").iterdir()} == {"ct.nii.gz", "ct_crop.nii.gz"}
    assert (made / "labelsTr/ct.nii.gz").samefile(shared_data / "totalseg_example/labels_stunet104.nii.gz")
    description = json.loads((made / "dataset.json").read_text())
    assert (len(description["labels"]), description["labels"]["aorta"], description["numTraining"]) == (105, 3, 2)
    assert data_with_minis({"totalseg_example": shared_data / "totalseg_example"}, tmp_path) == data


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no ct\.nii\.gz"):
        data_with_minis({"totalseg_example": tmp_path}, tmp_path)


def test_a_short_schedule_keeps_the_rest():
    schedule = short(100, TrainingSchedule("finetune", mirror=False, patch=(32, 32, 32)))
    assert schedule.epochs * schedule.iterations == 100
    assert (schedule.recipe, schedule.mirror, schedule.patch) == ("finetune", False, (32, 32, 32))
