"""The self-test finds what is wrong, and nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from stunet.batch import self_test as module
from stunet.batch.phantom import AFFINE, phantom, phantom_model
from stunet.batch.self_test import self_test
from stunet.errors import MissingPackageError
from stunet.imaging import preprocess
from stunet.imaging.formats import registry
from stunet.imaging.formats.samples import ORIENTATIONS
from stunet.inference.predictor import Predictor

MIRROR = np.diag([-1.0, 1, 1, 1])


@pytest.fixture
def few(monkeypatch):
    """Two orientations, three formats, one backend: the others differ in the file only."""
    monkeypatch.setattr(module, "ORIENTATIONS", ("RAS", "PIL"))
    monkeypatch.setattr(module, "FORMATS", (".nii.gz", ".mgz", "DICOM folder"))
    monkeypatch.setattr(module, "BACKENDS", {"torch": None})


def test_all_right(few):
    told = []
    checks = self_test(lambda done, total: told.append((done, total)))
    assert [check.outcome for check in checks] == ["same labels"] * 6
    assert told == [(number, 6) for number in range(1, 7)]


def test_there_are_48_orientations():
    assert len(set(ORIENTATIONS)) == 48 and {"RAS", "LPS", "SAL"} <= set(ORIENTATIONS)


def test_the_phantom_has_no_symmetry():
    scan, labels = phantom()
    mirrored = [np.flip(labels, axes) for axes in (0, 1, 2, (0, 1), (0, 2), (1, 2), (0, 1, 2))]
    assert not any(np.array_equal(labels, one) for one in mirrored)
    assert np.array_equal(Predictor(phantom_model(), module.PLAIN).predict(scan).labels, labels)


DAMAGES = {
    "mirrored voxels": lambda volume: replace(volume, array=volume.array[..., ::-1].copy()),
    "another place": lambda volume: replace(volume, nifti_header=None, affine=AFFINE + np.eye(4, k=3)),
    "another side": lambda volume: replace(volume, nifti_header=None, affine=volume.affine @ MIRROR),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_reader_that_is_wrong(few, monkeypatch, damage):
    read = registry.READERS[".mgz"]
    monkeypatch.setitem(registry.READERS, ".mgz", lambda path: damage(read(path)))
    wrong = [check for check in self_test() if check.problem]
    assert [check.name for check in wrong] == [".mgz"]
    assert "another" in wrong[0].outcome


def test_a_mistake_in_orienting(few, monkeypatch):
    """One that is undone afterwards, so that only the network can notice it."""
    plan = preprocess.axis_moves

    def without_flips(affine, target):
        return replace(plan(affine, target), flip=(False,) * 3)

    monkeypatch.setattr(preprocess, "axis_moves", without_flips)
    assert [check.name for check in self_test() if check.problem] == ["PIL", "torch"]


def test_a_missing_package_is_no_failure(few, monkeypatch):
    def fail(name):
        raise MissingPackageError("install it")

    monkeypatch.setattr(module, "_predictor_on", fail)
    assert [check.outcome for check in self_test()][-1] == "not installed"
