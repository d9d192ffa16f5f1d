import os

import pytest

from stunet.folders import nnunet_folders
from stunet.training.environment import TRAINER_FOLDER, loading_processes, set_nnunet_environment
from tests.training.conftest import environment


def test_one_root_by_default(tmp_path):
    with environment(tmp_path):
        folders = nnunet_folders()
        assert (folders.raw, folders.results) == (tmp_path / "raw", tmp_path / "results")
        assert folders.preprocessed.is_dir()
        assert os.environ["nnUNet_extTrainer"] == str(TRAINER_FOLDER)


def test_nnunets_own_variables_win(tmp_path):
    with environment(tmp_path):
        os.environ["nnUNet_raw"] = str(tmp_path / "elsewhere")
        assert set_nnunet_environment().raw == tmp_path / "elsewhere"
        assert (tmp_path / "elsewhere").is_dir()


def test_other_trainer_folders_stay(tmp_path):
    with environment(tmp_path):
        os.environ["nnUNet_extTrainer"] = "/mine"
        set_nnunet_environment()
        set_nnunet_environment()
        assert os.environ["nnUNet_extTrainer"] == f"/mine{os.pathsep}{TRAINER_FOLDER}"


@pytest.mark.parametrize("written", ["~/data/raw", "'~/data/raw'", '"~/data/raw"', " ~/data/raw "])
def test_a_path_as_env_files_have_it(monkeypatch, tmp_path, written):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("nnUNet_raw", written)
    assert nnunet_folders().raw == tmp_path / "data" / "raw"
    monkeypatch.setenv("nnUNet_raw", "")
    monkeypatch.setenv("STUNET_HOME", "~/home")
    assert nnunet_folders().raw == tmp_path / "home" / "raw"


@pytest.mark.parametrize("before", [None, "3"])
def test_the_number_of_loading_processes_is_put_back(monkeypatch, before):
    monkeypatch.setenv("nnUNet_n_proc_DA", before or "")
    if before is None:
        monkeypatch.delenv("nnUNet_n_proc_DA")
    with loading_processes(0):
        assert os.environ["nnUNet_n_proc_DA"] == "0"
    with loading_processes(None):
        assert os.environ.get("nnUNet_n_proc_DA") == before
    assert os.environ.get("nnUNet_n_proc_DA") == before
