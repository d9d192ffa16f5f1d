import math

import nibabel
import numpy as np
import pytest

from stunet.errors import UserError
from stunet.evaluation.case_scores import EvaluationConfig
from stunet.evaluation.report import evaluate
from stunet.evaluation.tolerances import Tolerances
from stunet.imaging.formats.registry import read_labels, write_labels

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])


def write(path, values, affine=AFFINE):
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(np.asarray(values, np.uint8).reshape(2, 2, 2), affine), path)
    return path


@pytest.fixture
def folders(tmp_path):
    """Two cases: in `a` label 1 is half right and 2 absent; in `b` 1 is right and 2 is missed."""
    predictions, references = tmp_path / "predictions", tmp_path / "references"
    write(predictions / "a.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(references / "a.nii.gz", [1, 0, 1, 0, 0, 0, 0, 0])
    write(predictions / "b.nii.gz", [1, 1, 0, 0, 0, 0, 0, 0])
    write(references / "b.nii.gz", [1, 1, 2, 0, 0, 0, 0, 0])
    return predictions, references


def test_a_folder(folders):
    report = evaluate(*folders)
    first, second = report.cases
    assert (first.case, second.case) == ("a", "b")
    assert first.dsc[1] == 0.5 and math.isnan(first.dsc[2])
    assert second.dsc == {1: 1.0, 2: 0.0}
    assert (first.mean, second.mean) == (0.5, 0.5)
    assert report.per_label == {1: 0.75, 2: 0.0}
    assert report.mean == 0.375


def test_names(folders):
    report = evaluate(*folders, names={1: "liver", 2: "spleen", 3: "aorta"})
    assert report.per_label == pytest.approx({1: 0.75, 2: 0.0, 3: math.nan}, nan_ok=True)
    assert report.mean == 0.375


def test_other_metrics(folders):
    report = evaluate(*folders, config=EvaluationConfig(("hd95", "dsc"), workers=2))
    first, second = report.cases
    diagonal = math.sqrt(2**2 + 2**2 + 4**2)
    assert second.scores["hd95"] == {1: 0, 2: pytest.approx(diagonal)}
    assert 0 < first.scores["hd95"][1] <= 2
    assert report.label_means("dsc") == {1: 0.75, 2: 0.0}
    assert report.per_label == report.label_means("hd95") and report.mean == report.foreground_mean("hd95")


def test_the_spacing_is_the_files_own(tmp_path):
    """One extra voxel of 2 mm along z, and no other difference."""
    for name, slices in (("prediction", 4), ("reference", 3)):
        array = np.zeros((5, 5, 8), np.uint8)
        array[1:4, 1:4, 1 : 1 + slices] = 1
        nibabel.save(nibabel.Nifti1Image(array, AFFINE), tmp_path / f"{name}.nii.gz")
    files = tmp_path / "prediction.nii.gz", tmp_path / "reference.nii.gz"
    report = evaluate(*files, config=EvaluationConfig(("hd95", "nsd"), Tolerances(2.0)))
    assert report.mean == 2.0 and report.foreground_mean("nsd") == 1
    assert evaluate(*files, config=EvaluationConfig(("nsd",), Tolerances(1.9))).mean < 1


def test_progress_and_workers(folders):
    told = []
    serial = evaluate(*folders, on_case=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    assert evaluate(*folders, config=EvaluationConfig(workers=4)).mean == serial.mean


def test_renumbered(folders):
    """Renumbering maps the predictions' label 1 and the references' labels 1 and 2 to the same label."""
    config = EvaluationConfig(renumber_prediction=lambda labels: labels * 7, renumber_reference=merge)
    report = evaluate(*folders, {7: "kidney"}, config)
    assert report.cases[1].dsc == {7: pytest.approx(4 / 5)}


def merge(labels):
    return np.where(labels > 0, 7, 0).astype(np.uint8)


def test_a_label_that_cannot_be_renumbered(folders):
    def refuse(labels):
        raise ValueError("the label 1 has no entry")

    with pytest.raises(UserError, match=r"predictions/a\.nii\.gz: the label 1 has no entry"):
        evaluate(*folders, config=EvaluationConfig(renumber_prediction=refuse))


def test_a_single_file(folders):
    predictions, references = folders
    report = evaluate(predictions / "a.nii.gz", references / "a.nii.gz")
    assert report.per_label == {1: 0.5}


def test_a_value_without_a_name(folders):
    with pytest.raises(UserError, match=r"b\.nii\.gz contains the value 2, which is not among the labels to score"):
        evaluate(*folders, names={1: "liver"})


def test_a_missing_prediction(folders):
    (folders[0] / "b.nii.gz").unlink()
    with pytest.raises(UserError, match=r"1 of 2 references have no prediction in .*predictions: b"):
        evaluate(*folders)


def test_a_prediction_too_many_is_no_error(folders):
    write(folders[0] / "c.nii.gz", [1] * 8)
    assert len(evaluate(*folders).cases) == 2


def test_formats_and_capitals_may_differ(folders):
    predictions, references = folders
    expected = evaluate(*folders)
    (predictions / "a.nii.gz").rename(predictions / "a.NII.GZ")
    for path, suffix in ((predictions / "b.nii.gz", ".seg.nrrd"), (references / "a.nii.gz", ".mha")):
        volume = read_labels(path)
        write_labels(volume.array[0], volume, path.with_name(f"{path.name[0]}{suffix}"))
        path.unlink()
    np.testing.assert_array_equal(evaluate(*folders).matrix("dsc"), expected.matrix("dsc"))


def test_grids_that_differ(folders, tmp_path):
    predictions, _references = folders
    write(predictions / "a.nii.gz", [1] * 8, np.diag([1.0, 1.0, 2.1, 1.0]))
    with pytest.raises(UserError, match=r"a\.nii\.gz and its reference .* have different positions in space"):
        evaluate(*folders)
    nibabel.save(nibabel.Nifti1Image(np.ones((2, 2, 3), np.uint8), AFFINE), predictions / "a.nii.gz")
    with pytest.raises(UserError, match=r"a\.nii\.gz has \(3, 2, 2\) voxels, but its reference .* \(2, 2, 2\)"):
        evaluate(*folders)


def test_nothing_to_compare(folders, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no label map in .*empty .no file that ends in \.nii, "):
        evaluate(folders[0], tmp_path / "empty")
    with pytest.raises(UserError, match="two files or two folders"):
        evaluate(folders[0], folders[1] / "a.nii.gz")
    with pytest.raises(UserError, match="lost"):
        evaluate(tmp_path / "lost.nii.gz", folders[1] / "a.nii.gz")
