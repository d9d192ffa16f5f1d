import nibabel
import numpy as np
import pytest
from matplotlib.image import imread

from stunet.errors import UserError
from stunet.evaluation.case_scores import EvaluationConfig, pair_files
from stunet.evaluation.report import evaluate
from stunet.evaluation.worst import worst_cases
from stunet.pictures import worst_case as module
from stunet.pictures.worst_case import draw_worst_case

AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


@pytest.fixture
def folders(tmp_path):
    """In one case, label 2 is missed, and label 1, far from it, is slightly shifted."""
    reference = np.zeros((90, 80, 70), np.uint8)
    reference[10:20, 10:20, 10:18] = 1
    prediction = reference.copy()
    prediction[10:12] = 0
    reference[70:78, 60:68, 50:60] = 2
    image = np.random.default_rng(0).normal(0, 300, reference.shape).astype(np.int16)
    for folder, name, array in (
        ("predictions", "case", prediction),
        ("references", "case", reference),
        ("images", "case_0000", image),
    ):
        (tmp_path / folder).mkdir()
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / folder / f"{name}.nii.gz")
    return tmp_path


def drawn(folders, monkeypatch, images, names, draw=lambda *arguments, title: None, config=None):
    """The arguments of the preview, and the path of the picture."""
    seen = {}
    monkeypatch.setattr(
        module, "save_preview", lambda *a, title: (seen.update(a=a, title=title), draw(*a, title=title))
    )
    scored = evaluate(folders / "predictions", folders / "references", names, config)
    (pair,) = pair_files(folders / "predictions", folders / "references")
    (worst,) = worst_cases(scored, 1)
    return seen, draw_worst_case(worst, pair, scored, folders / "pictures", images)


def test_a_structure_that_was_missed(folders, monkeypatch):
    images = folders / "images"
    seen, path = drawn(folders, monkeypatch, images, {1: "liver", 2: "spleen"}, draw=module.save_preview)
    assert path.name == "case_spleen.png" and imread(path).ndim == 3
    _, scan, predicted, names, true = seen["a"]
    assert not predicted.any() and set(np.unique(true)) == {0, 2} and names == {2: "spleen"}
    assert seen["title"] == "DSC 0.0000: spleen, case"
    assert scan.shape == true.shape < (70, 80, 90) and np.count_nonzero(true) == 8 * 8 * 10
    # the part of the scan is at the same position
    whole = nibabel.load(images / "case_0000.nii.gz")
    inside = np.argwhere(true)[0]
    world = scan.affine @ (*inside[::-1], 1)
    x, y, z = np.rint(np.linalg.inv(whole.affine) @ world).astype(int)[:3]
    assert scan.array[0][tuple(inside)] == whole.get_fdata()[x, y, z] and (x, y, z) == (70, 60, 50)


def test_a_structure_that_was_found_without_a_scan_behind_it(folders, monkeypatch):
    (folders / "references" / "case.nii.gz").rename(folders / "references" / "both.nii.gz")
    both = nibabel.load(folders / "references" / "both.nii.gz")
    one = np.where(both.get_fdata() == 1, 1, 0).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(one, AFFINE), folders / "references" / "case.nii.gz")
    (folders / "references" / "both.nii.gz").unlink()
    seen, path = drawn(folders, monkeypatch, None, {1: "liver / left"})
    _, scan, predicted, _, true = seen["a"]
    assert path.name == "case_liver_-_left.png" and not scan.array.any()
    assert np.count_nonzero(predicted) == 8 * 10 * 8 and np.count_nonzero(true) == 10 * 10 * 8


def test_a_region_is_drawn_with_all_its_members(folders, monkeypatch):
    config = EvaluationConfig(members={3: (1, 2)})
    seen, _ = drawn(folders, monkeypatch, None, {3: "whole"}, config=config)  # no voxel has the value 3
    _, _, predicted, names, true = seen["a"]
    assert names == {3: "whole"} and set(np.unique(true)) == set(np.unique(predicted)) == {0, 3}
    assert np.count_nonzero(true) == 10 * 10 * 8 + 8 * 8 * 10 and np.count_nonzero(predicted) == 8 * 10 * 8


def test_a_scan_that_is_not_there(folders, monkeypatch):
    with pytest.raises(UserError, match=r"lost: there is no such folder with scans"):
        drawn(folders, monkeypatch, folders / "lost", {1: "liver", 2: "spleen"})
    (folders / "images" / "case_0000.nii.gz").rename(folders / "images" / "other.nii.gz")
    with pytest.raises(UserError, match=r"no scan of case in .*; looked for case_0000 and case \("):
        drawn(folders, monkeypatch, folders / "images", {1: "liver", 2: "spleen"})


@pytest.mark.parametrize("name", ["case_0000.NII.GZ", "case.Nii.gz"])
def test_a_scan_whose_suffix_is_in_capitals(folders, monkeypatch, name):
    images = folders / "images"
    with_small_letters, _ = drawn(folders, monkeypatch, images, None)
    (images / "case_0000.nii.gz").rename(images / name)
    with_capitals, _ = drawn(folders, monkeypatch, images, None)
    assert np.array_equal(with_small_letters["a"][1].array, with_capitals["a"][1].array)
    assert with_capitals["a"][1].array.any()
