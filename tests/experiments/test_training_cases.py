"""Choices of cases: links, relabelled maps, splits and nested subsets, on invented label maps."""

import json
from itertools import pairwise

import numpy as np
import pytest

from stunet.datasets.raw import read_splits
from stunet.errors import UserError
from stunet.experiments.training_cases import Split, TrainingCases, cases_of, fold_of, make_dataset, validation_labels
from stunet.imaging.formats.nifti_write import write_nifti_image
from stunet.imaging.formats.registry import read_labels, write_labels
from stunet.imaging.volume import Volume

LABELS = {"background": 0, "liver": 1, "spleen": 2, "aorta": 3}


def write_dataset(folder, names, split=None):
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in names:
        array_ZYX = random.integers(0, 4, (4, 5, 6)).astype(np.uint8)
        like = Volume(array_ZYX[None], np.eye(4))
        write_nifti_image(array_ZYX.astype(np.float32), like, folder / f"imagesTr/{name}_0000.nii.gz")
        write_labels(array_ZYX, like, folder / f"labelsTr/{name}.nii.gz")
    description = {"channel_names": {"0": "CT"}, "labels": LABELS, "numTraining": len(names), "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(description))
    if split:
        (folder / "splits_final.json").write_text(json.dumps([split]))
    return folder


@pytest.fixture
def dataset(tmp_path):
    names = [f"case_{number}" for number in range(10)]
    return write_dataset(tmp_path / "given", names, {"train": names[:8], "val": names[8:]})


def test_the_datasets_own_split_and_links(dataset, tmp_path):
    made = make_dataset(TrainingCases(7, "AMOS-CT", "amos22"), {"amos22": dataset}, tmp_path / "raw")
    assert made.name == "Dataset007_AMOSCT"
    image = made / "imagesTr/case_3_0000.nii.gz"
    assert image.is_symlink() and image.resolve() == dataset / "imagesTr/case_3_0000.nii.gz"
    assert json.loads((made / "dataset.json").read_text())["numTraining"] == 10
    assert set(validation_labels(made)) == {"case_8", "case_9"}
    assert fold_of(None, made) == 0


def test_a_given_split_takes_those_cases_only(dataset, tmp_path):
    split = Split(("case_1", "case_2"), ("case_9",))
    made = make_dataset(TrainingCases(7, "Few", "x", split), {"x": dataset}, tmp_path / "raw")
    assert sorted(p.name for p in (made / "labelsTr").iterdir()) == [
        "case_1.nii.gz",
        "case_2.nii.gz",
        "case_9.nii.gz",
    ]


def test_a_second_dataset_to_validate_on(dataset, tmp_path):
    other = write_dataset(tmp_path / "official", ["val_1", "val_2"])
    cases = TrainingCases(7, "FLARE22", "flare22", validation="flare22_validation")
    assert cases.datasets == ("flare22", "flare22_validation")
    made = make_dataset(cases, {"flare22": dataset, "flare22_validation": other}, tmp_path / "raw")
    fold = read_splits(made / "splits_final.json")[0]
    assert (len(fold["train"]), fold["val"]) == (10, ["val_1", "val_2"])


def test_kept_labels_are_numbered_anew_and_others_are_background(dataset, tmp_path):
    cases = TrainingCases(7, "Expert", "x", labels=("aorta", "liver"))
    made = make_dataset(cases, {"x": dataset}, tmp_path / "raw")
    assert json.loads((made / "dataset.json").read_text())["labels"] == {"background": 0, "aorta": 1, "liver": 2}
    old = read_labels(dataset / "labelsTr/case_0.nii.gz").array
    new = read_labels(made / "labelsTr/case_0.nii.gz").array
    np.testing.assert_array_equal(new == 1, old == 3)
    np.testing.assert_array_equal(new == 2, old == 1)
    np.testing.assert_array_equal(new == 0, (old == 0) | (old == 2))


def test_files_that_dataset_json_names_become_those_of_folders(dataset, tmp_path):
    """nnU-Net's `dataset`; the new dataset is made of links in nnU-Net's folders."""
    names = [f"case_{number}" for number in range(10)]
    content = json.loads((dataset / "dataset.json").read_text())
    files = {name: {"images": [f"all/{name}_ct.nii.gz"], "label": f"all/{name}_seg.nii.gz"} for name in names}
    (dataset / "all").mkdir()
    for name in names:
        (dataset / f"imagesTr/{name}_0000.nii.gz").rename(dataset / files[name]["images"][0])
        (dataset / f"labelsTr/{name}.nii.gz").rename(dataset / files[name]["label"])
    (dataset / "dataset.json").write_text(json.dumps({**content, "dataset": files}))
    made = make_dataset(TrainingCases(7, "AMOS-CT", "x"), {"x": dataset}, tmp_path / "raw")
    assert (made / "imagesTr/case_3_0000.nii.gz").resolve() == dataset / "all/case_3_ct.nii.gz"
    assert (made / "labelsTr/case_3.nii.gz").resolve() == dataset / "all/case_3_seg.nii.gz"
    assert "dataset" not in json.loads((made / "dataset.json").read_text())
    assert set(validation_labels(made)) == {"case_8", "case_9"}


def test_subsets_are_nested_and_found_by_their_share(dataset, tmp_path):
    cases = TrainingCases(7, "Shares", "x", fractions=(0.1, 0.25, 0.5, 1.0))
    made = make_dataset(cases, {"x": dataset}, tmp_path / "raw")
    folds = read_splits(made / "splits_final.json")
    chosen = [set(folds[fold_of(fraction, made)]["train"]) for fraction in cases.fractions]
    assert [len(subset) for subset in chosen] == [1, 2, 4, 8]
    assert all(small < large for small, large in pairwise(chosen))
    assert {tuple(fold["val"]) for fold in folds} == {("case_8", "case_9")}
    with pytest.raises(UserError, match="no fold of 6 cases"):
        fold_of(0.75, made)


def test_shares_are_of_the_training_cases():
    assert cases_of(0.05, Split(tuple(map(str, range(1081))), ())) == 54


@pytest.mark.parametrize(
    ("cases", "said"),
    [
        (TrainingCases(7, "X", "other"), "--data other=FOLDER"),
        (TrainingCases(7, "X", "x", Split(("case_1", "gone"), ("case_2",))), "have no images or no label map: gone"),
        (
            TrainingCases(7, "X", "x", Split(("case_1",), ("case_1",))),
            "case_1 is among the cases to train on and those",
        ),
        (TrainingCases(7, "X", "x", labels=("heart",)), "no label heart"),
    ],
)
def test_what_is_missing_is_named(dataset, tmp_path, cases, said):
    with pytest.raises(UserError, match=said):
        make_dataset(cases, {"x": dataset}, tmp_path / "raw")
    assert not (tmp_path / "raw").exists() or not any((tmp_path / "raw").iterdir())


def test_no_split_is_no_guess(tmp_path):
    folder = write_dataset(tmp_path / "given", ["a", "b"])
    with pytest.raises(UserError, match=r"no splits_final\.json"):
        make_dataset(TrainingCases(7, "X", "x"), {"x": folder}, tmp_path / "raw")
