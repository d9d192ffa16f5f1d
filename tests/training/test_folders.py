import os
from pathlib import Path

import pytest

from stunet.errors import UserError
from stunet.training.folders import TRAINER_FOLDER, find_dataset, nnunet_folders, set_nnunet_environment
from tests.training.conftest import environment


def test_one_root_by_default(tmp_path):
    with environment(tmp_path):
        folders = nnunet_folders()
        assert (folders.raw, folders.results) == (tmp_path / "raw", tmp_path / "results")
        assert folders.preprocessed.is_dir()
        assert os.environ["nnUNet_extTrainer"] == str(TRAINER_FOLDER)


def test_nnunets_own_variables_win(tmp_path, monkeypatch):
    with environment(tmp_path):
        monkeypatch.setenv("nnUNet_raw", str(tmp_path / "elsewhere"))
        assert set_nnunet_environment().raw == tmp_path / "elsewhere"
        assert (tmp_path / "elsewhere").is_dir()


def test_other_trainer_folders_stay(tmp_path, monkeypatch):
    with environment(tmp_path):
        monkeypatch.setenv("nnUNet_extTrainer", "/mine")
        set_nnunet_environment()
        set_nnunet_environment()
        assert os.environ["nnUNet_extTrainer"] == f"/mine{os.pathsep}{TRAINER_FOLDER}"


def test_a_dataset_by_number_or_name(tmp_path: Path):
    (tmp_path / "Dataset004_Hippocampus").mkdir()
    assert find_dataset("4", tmp_path) == find_dataset("004", tmp_path) == "Dataset004_Hippocampus"
    assert find_dataset("Dataset004_Hippocampus", tmp_path) == "Dataset004_Hippocampus"


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ("5", "no folder Dataset005_.*Dataset004_A, Dataset004_B"),
        ("4", "Several datasets.*Dataset004_A, Dataset004_B"),
        ("Dataset004_C", "no dataset 'Dataset004_C'"),
        ("Hippocampus", "a number .* or a name like"),
    ],
)
def test_a_dataset_that_is_not_there(tmp_path: Path, asked, sentence):
    (tmp_path / "Dataset004_A").mkdir()
    (tmp_path / "Dataset004_B").mkdir()
    with pytest.raises(UserError, match=sentence):
        find_dataset(asked, tmp_path)
