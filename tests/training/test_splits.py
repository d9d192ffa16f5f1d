"""A stored split and the cases that are there."""

import json

import pytest

from stunet.errors import UserError
from stunet.training.splits import require_fitting_split

CASES = [f"case_{number}" for number in range(6)]
SPLIT = [{"train": CASES[:3], "val": CASES[3:]}, {"train": CASES[3:], "val": CASES[:3]}]


def check(folder, split, fold=0, cases=CASES):
    (folder / "splits_final.json").write_text(split if isinstance(split, str) else json.dumps(split))
    require_fitting_split(folder, cases, fold)


def test_a_split_that_fits_and_none(tmp_path, caplog):
    require_fitting_split(tmp_path, CASES, 4)
    check(tmp_path, SPLIT, fold=1)
    assert not caplog.text


def test_a_fold_beyond_the_split(tmp_path):
    with pytest.raises(UserError, match=r"no fold 5.*5 folds"):
        require_fitting_split(tmp_path, CASES, 5)
    with pytest.raises(UserError, match=r"no fold 2.*2 folds"):
        check(tmp_path, SPLIT, fold=2)


@pytest.mark.parametrize(
    ("fold", "sentence"),
    [
        ({"train": CASES[:3], "val": []}, r"Fold 0: 'val' is empty"),
        ({"train": [], "val": CASES}, r"Fold 0: 'train' is empty"),
        ({"train": ["case_0.nii.gz"], "val": CASES}, r"Fold 0: 'train' .* case_0.nii.gz \(case_0\?\)"),
        ({"train": ["case_1_0000"], "val": CASES}, r"case_1_0000 \(case_1\?\)"),
        ({"train": CASES, "val": ["csae_longer", "casse_5"]}, r"'val' .* casse_5 \(case_5\?\), csae_longer"),
        ({"train": ["removed"], "val": CASES}, r"does not fit the cases .*Correct the file.*\n.*removed"),
    ],
)
def test_a_fold_that_does_not_fit(tmp_path, fold, sentence):
    with pytest.raises(UserError, match=sentence):
        check(tmp_path, [fold, SPLIT[1]], fold=1)


@pytest.mark.parametrize("content", ["{", "{}x", "3", '["train"]', '[{"train": []}]', '[{"train": 3, "val": 4}]'])
def test_a_file_that_is_no_split(tmp_path, content):
    with pytest.raises(UserError, match="is not a split of nnU-Net"):
        check(tmp_path, content)


def test_cases_in_no_fold_and_in_both_parts_are_said(tmp_path, caplog):
    check(tmp_path, SPLIT, cases=[*CASES, "new_1", "new_2"])
    assert "2 of 8 cases are in no fold" in caplog.text
    assert "new_1, new_2" in caplog.text
    check(tmp_path, [{"train": CASES, "val": CASES[:1]}])
    assert "both trains and validates on: case_0" in caplog.text
