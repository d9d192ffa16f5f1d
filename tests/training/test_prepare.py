import json
import shutil

import pytest

from stunet.errors import UserError
from stunet.training.prepare import _are_up_to_date, prepare
from tests.training.conftest import DATASET, environment


def test_what_is_there_is_not_made_again(home):
    images = home / "preprocessed" / DATASET / "STUNetPlans_3d_fullres"
    assert _are_up_to_date(images, home / "raw" / DATASET)
    assert len(list(images.glob("*.pkl"))) == 10


@pytest.mark.parametrize("change", ["lost", "older"])
def test_a_case_that_changed(home, tmp_path, change):
    raw, images = tmp_path / "raw", tmp_path / "images"
    shutil.copytree(home / "raw" / DATASET, raw)
    shutil.copytree(home / "preprocessed" / DATASET / "STUNetPlans_3d_fullres", images)
    assert _are_up_to_date(images, raw)
    if change == "lost":
        next(images.glob("*.pkl")).unlink()
    else:
        next((raw / "labelsTr").iterdir()).touch()
    assert not _are_up_to_date(images, raw)


def test_an_unknown_size_or_dataset(home):
    with pytest.raises(UserError, match=r"no size 'gigantic'.*tiny, small"):
        prepare("4", "gigantic")
    with pytest.raises(UserError, match="no folder Dataset005"):
        prepare("5", "tiny")


def test_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "raw" / "Dataset007_Empty").mkdir(parents=True)
    with environment(tmp_path), pytest.raises(UserError, match=r"no dataset.json"):
        prepare("7", "tiny")


@pytest.mark.slow
def test_another_size_leaves_the_images_alone(home):
    images = home / "preprocessed" / DATASET / "STUNetPlans_3d_fullres"
    before = {path: path.stat().st_mtime_ns for path in images.iterdir()}
    made = prepare("4", "base", processes=1)
    assert (made.cases, made.plans_file.name) == (10, "STUNetPlans_base.json")
    assert json.loads(made.plans_file.read_text())["plans_name"] == "STUNetPlans_base"
    assert {path: path.stat().st_mtime_ns for path in images.iterdir()} == before


@pytest.mark.slow
def test_a_configuration_that_nnunet_does_not_plan(home):
    with pytest.raises(UserError, match="no '3d_lowres' for Dataset004_Hippocampus, only: 3d_fullres"):
        prepare("4", "tiny", "3d_lowres", processes=1)


@pytest.mark.slow
def test_labels_that_nnunet_refuses(home, tmp_path):
    raw = tmp_path / "raw" / DATASET
    shutil.copytree(home / "raw" / DATASET, raw)
    next((raw / "labelsTr").iterdir()).unlink()
    with environment(tmp_path), pytest.raises(UserError, match="nnU-Net refuses the dataset"):
        prepare("4", "tiny", processes=1)
