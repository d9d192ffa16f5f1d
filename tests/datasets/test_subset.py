import json

import numpy as np
import pytest

from stunet.datasets.raw import read_splits
from stunet.datasets.subset import stratified_order, write_subsets
from stunet.errors import UserError
from tests.datasets import published


@pytest.fixture
def dataset(tmp_path):
    """20 cases; every second holds label 1, every fifth label 2."""
    folder = tmp_path / "raw" / "Dataset006_Many"
    for number in range(20):
        labels = [label for label, every in ((1, 2), (2, 5)) if number % every == 0]
        published.write_nifti(folder / "labelsTr" / f"case_{number:02d}.nii.gz", published.blocks(*labels))
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "one": 1, "two": 2},
        "numTraining": 20,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def holds(cases, labels, seed):
    """Cases with labels of very different frequencies, as in scans of parts of the body."""
    random = np.random.default_rng(seed)
    share = random.uniform(0.05, 0.95, labels)
    return {
        f"case_{case:03d}": frozenset(np.flatnonzero(random.random(labels) < share).tolist()) for case in range(cases)
    }


def imbalance(cases, order, size):
    """Mean over labels of the distance between the share in the first `size` and in all."""
    labels = sorted(set().union(*cases.values()))
    share = [[np.mean([label in cases[name] for name in names]) for label in labels] for names in (order[:size], order)]
    return np.abs(np.subtract(*share)).mean()


def test_an_order_holds_each_case_once_and_is_the_seeds():
    cases = holds(60, 20, seed=1)
    order = stratified_order(cases, seed=3)
    assert sorted(order) == sorted(cases)
    assert order == stratified_order(dict(reversed(cases.items())), seed=3) != stratified_order(cases, seed=4)


@pytest.mark.parametrize("size", [10, 20, 40])
def test_beginnings_are_closer_to_the_whole_than_random_ones(size):
    cases = holds(200, 50, seed=2)
    ours = np.mean([imbalance(cases, stratified_order(cases, seed), size) for seed in range(5)])
    random = np.random.default_rng(0)
    theirs = np.mean([imbalance(cases, random.permutation(sorted(cases)).tolist(), size) for _ in range(20)])
    assert ours < 0.7 * theirs


def test_subsets_are_nested_and_share_the_validation_cases(dataset):
    subsets = write_subsets(dataset, [8, 4, 12], seed=0)
    folds = read_splits(dataset / "splits_final.json")
    assert [len(fold["train"]) for fold in folds] == [16, 4, 8, 12]
    assert set(folds[1]["train"]) < set(folds[2]["train"]) < set(folds[3]["train"]) < set(folds[0]["train"])
    assert all(fold["val"] == folds[0]["val"] and not set(fold["val"]) & set(fold["train"]) for fold in folds)
    assert {fold: len(cases) for fold, cases in subsets.folds.items()} == {1: 4, 2: 8, 3: 12}
    with_one = [sum(int(name[-2:]) % 2 == 0 for name in fold["train"]) / len(fold["train"]) for fold in folds]
    assert max(abs(share - with_one[0]) for share in with_one) <= 0.13


def test_the_datasets_own_split_stays(dataset):
    """As for TotalSegmentator: fold 0 is the official one, and subsets are drawn from its training cases."""
    official = {"train": [f"case_{n:02d}" for n in range(15)], "val": [f"case_{n:02d}" for n in range(15, 20)]}
    (dataset / "splits_final.json").write_text(json.dumps([official]))
    write_subsets(dataset, [5])
    first, second = read_splits(dataset / "splits_final.json")
    assert first == official and second["val"] == official["val"] and set(second["train"]) < set(official["train"])


def test_a_prepared_dataset_gets_the_folds_too(dataset, tmp_path):
    """nnU-Net has split the cases already; its folds stay, and the raw dataset gets them."""
    prepared = tmp_path / "preprocessed"
    prepared.mkdir()
    names = [f"case_{n:02d}" for n in range(20)]
    five = [{"train": [n for n in names if n not in names[f::5]], "val": names[f::5]} for f in range(5)]
    (prepared / "splits_final.json").write_text(json.dumps(five))
    subsets = write_subsets(dataset, [4, 8], base=1, preprocessed=prepared)
    assert sorted(subsets.folds) == [5, 6]
    folds = read_splits(prepared / "splits_final.json")
    assert folds[:5] == five and folds == read_splits(dataset / "splits_final.json")
    assert set(folds[6]["train"]) < set(five[1]["train"]) and folds[6]["val"] == five[1]["val"]


def test_a_prepared_dataset_with_other_folds(dataset, tmp_path):
    write_subsets(dataset, [4])
    (tmp_path / "splits_final.json").write_text(json.dumps([{"train": ["case_00"], "val": ["case_01"]}]))
    before = (dataset / "splits_final.json").read_text()
    with pytest.raises(UserError, match="other folds than the raw dataset"):
        write_subsets(dataset, [4], preprocessed=tmp_path)
    assert (dataset / "splits_final.json").read_text() == before


@pytest.mark.parametrize(
    ("sizes", "base", "sentence"),
    [([17], 0, "1 to 16 cases .* not .17."), ([], 0, "not none"), ([0], 0, "not .0."), ([4], 3, "no fold 3")],
)
def test_what_cannot_be_drawn(dataset, sizes, base, sentence):
    with pytest.raises(UserError, match=sentence):
        write_subsets(dataset, sizes, base=base)
    assert not (dataset / "splits_final.json").exists()


def test_label_maps_that_dataset_json_names(dataset):
    """nnU-Net's `dataset`: the same cases under other names give the same folds."""
    write_subsets(dataset, [4, 8])
    expected = (dataset / "splits_final.json").read_text()
    (dataset / "splits_final.json").unlink()
    content = json.loads((dataset / "dataset.json").read_text())
    files = {
        path.name.removesuffix(".nii.gz"): {"images": [], "label": f"all/my{path.name}"}
        for path in sorted((dataset / "labelsTr").iterdir())
    }
    (dataset / "all").mkdir()
    for path in (dataset / "labelsTr").iterdir():
        path.rename(dataset / "all" / f"my{path.name}")
    (dataset / "dataset.json").write_text(json.dumps({**content, "dataset": files}))
    write_subsets(dataset, [4, 8])
    assert (dataset / "splits_final.json").read_text() == expected


def test_voxels_that_are_ignored_are_no_structure(dataset):
    """Whether a case has some does not decide on the order."""
    write_subsets(dataset, [4, 8])
    expected = (dataset / "splits_final.json").read_text()
    (dataset / "splits_final.json").unlink()
    for path in sorted((dataset / "labelsTr").iterdir())[:7]:
        array = published.read(path).copy()
        array[-1] = 3
        published.write_nifti(path, array)
    content = json.loads((dataset / "dataset.json").read_text())
    (dataset / "dataset.json").write_text(json.dumps({**content, "labels": {**content["labels"], "ignore": 3}}))
    write_subsets(dataset, [4, 8])
    assert (dataset / "splits_final.json").read_text() == expected
