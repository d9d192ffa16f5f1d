"""A trained fold is validated once more."""

import json
import shutil

import pytest

from stunet.errors import FileError
from stunet.training.run import train
from tests.training.conftest import DATASET, environment
from tests.training.options import changed, settings_of

SETTINGS = settings_of("tiny", epochs=2, iterations_per_epoch=2, precision="float32", picture_every=0)


@pytest.fixture(scope="module")
def fold(prepared_home, tmp_path_factory):
    """A trained fold."""
    folder = tmp_path_factory.mktemp("results")
    with environment(prepared_home), pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(folder))
        train(SETTINGS)
        yield folder / DATASET / "STUNetTrainer_tiny__STUNetPlans_tiny__3d_fullres" / "fold_0"


def scores(folder):
    return json.loads((folder / "summary.json").read_text())["mean"]


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.nii.gz")}


def test_the_last_checkpoint_gives_what_the_training_gave(fold):
    before, trained = files_of(fold / "validation"), (fold / "checkpoint_final.pth").stat().st_mtime
    (fold / "validation" / "remains.txt").write_text("of the older one")
    result = train(changed(SETTINGS, validate_only="last"))
    assert files_of(fold / "validation") == before and len(before) == 2
    assert not (fold / "validation" / "remains.txt").exists()
    assert (fold / "checkpoint_final.pth").stat().st_mtime == trained
    assert result.dsc_per_label == {label: value["Dice"] for label, value in scores(fold / "validation").items()}


def test_the_best_checkpoint_has_a_folder_of_its_own(fold):
    """The weights decide: where the best are those of the last epoch, so are the predictions."""
    shutil.copy(fold / "checkpoint_final.pth", fold / "checkpoint_best.pth")
    train(changed(SETTINGS, validate_only="best"))
    assert files_of(fold / "validation_best") == files_of(fold / "validation")
    assert not list(fold.glob(".*partial"))


def test_the_best_and_the_last_differ(fold, monkeypatch):
    (fold / "checkpoint_best.pth").unlink()
    with pytest.raises(FileError, match="no best checkpoint"):
        train(changed(SETTINGS, validate_only="best"))
    assert (fold / "validation").is_dir()


def test_nothing_to_validate(fold):
    with pytest.raises(FileError, match=r"no training in .*fold_1"):
        train(changed(SETTINGS, validate_only="last", fold=1))
    assert not (fold.parent / "fold_1").exists()
