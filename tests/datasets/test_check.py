import json
import re

import nibabel
import numpy as np
import pytest
import SimpleITK

from stunet.datasets.check import check_dataset
from stunet.errors import UserError
from tests.datasets import published

NAMES = ("a", "b", "c")


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "Dataset005_Small"
    for number, name in enumerate(NAMES):
        published.write_nifti(folder / "imagesTr" / f"{name}_0000.nii.gz", published.scan(number))
        published.write_nifti(folder / "imagesTr" / f"{name}_0001.nii.gz", published.scan(number + 10))
        published.write_nifti(folder / "labelsTr" / f"{name}.nii.gz", published.blocks(*([1, 2] if number else [1])))
    describe(folder)
    return folder


def describe(folder, **changes):
    description = {
        "channel_names": {"0": "CT", "1": "PET"},
        "labels": {"background": 0, "one": 1, "two": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps({**description, **changes}))


def test_a_whole_dataset(dataset):
    seen = []
    report = check_dataset(dataset, lambda done, total: seen.append((done, total)))
    assert report.problems == () and report.cases == 3
    assert report.label_cases == {"one": 3, "two": 2}
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_real_dataset(shared_data):
    assert check_dataset(shared_data / "Dataset901_STSPET").problems == ()


@pytest.mark.parametrize(
    ("file", "content", "sentence"),
    [
        ("labelsTr/b.nii.gz", None, "b: there is no label map."),
        ("imagesTr/b_0001.nii.gz", None, "b: channel 0001 is missing."),
        ("imagesTr/b_0002.nii.gz", published.scan(1), "b: b_0002.nii.gz is a channel that dataset.json does not name."),
        ("imagesTr/b_0001.nii.gz", published.scan(1)[:4], "b: .*b_0001.nii.gz: has 10x8x4 voxels, but .*10x8x6"),
        ("labelsTr/b.nii.gz", published.blocks(1, 9), "b: .*b.nii.gz: contains the label 9, which dataset.json does"),
        ("labelsTr/b.nii.gz", published.blocks(1) + 0.5, "b: .*has fractions"),
        ("imagesTr/b_0000.nii.gz", np.full(published.SHAPE, np.nan, np.float32), "b: .*not finite"),
    ],
)
def test_each_problem_is_a_sentence_that_names_the_case(dataset, file, content, sentence):
    path = dataset / file
    if content is None:
        path.unlink()
    else:
        published.write_nifti(path, content)
    (problem,) = check_dataset(dataset).problems
    assert re.match(sentence, problem), problem


def test_an_image_without_a_channel_number(dataset):
    (dataset / "imagesTr" / "b_0000.nii.gz").rename(dataset / "imagesTr" / "b.nii.gz")
    problems = check_dataset(dataset).problems
    assert "b: channel 0000 is missing." in problems
    assert "b: b.nii.gz has no channel number; call it b_0000." in problems


def test_a_label_map_elsewhere_in_the_room(dataset):
    label = nibabel.load(dataset / "labelsTr" / "c.nii.gz")
    affine = label.affine.copy()
    affine[2, 3] = 30
    nibabel.save(nibabel.Nifti1Image(np.asarray(label.dataobj), affine), dataset / "labelsTr" / "c.nii.gz")
    (problem,) = check_dataset(dataset).problems
    assert problem.startswith("c: ") and "30 mm away" in problem


def test_a_damaged_file_costs_only_its_case(dataset):
    path = dataset / "imagesTr" / "a_0001.nii.gz"
    path.write_bytes(path.read_bytes()[:-40])
    (problem,) = check_dataset(dataset).problems
    assert problem.startswith(f"a: {path}: ")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"numTraining": 4}, "numTraining is 4, but there are 3"),
        ({"labels": {"background": 0, "one": 1, "two": 2, "four": 4}}, "count from 0 without a gap"),
        ({"labels": {"air": 0, "one": 1, "two": 2}}, "label 0 should be called background"),
    ],
)
def test_a_description_that_does_not_fit(dataset, changes, sentence):
    describe(dataset, **changes)
    (problem,) = check_dataset(dataset).problems
    assert sentence in problem


def test_regions(dataset):
    """nnU-Net's region-based labels: "whole" is 1 and 2 together."""
    describe(dataset, labels={"background": 0, "whole": [1, 2], "core": 2}, regions_class_order=[1, 2])
    report = check_dataset(dataset)
    assert (report.problems, report.label_cases) == ((), {"whole": 3, "core": 2})


def test_regions_without_an_order(dataset):
    describe(dataset, labels={"background": 0, "whole": [1, 2], "core": 2})
    with pytest.raises(UserError, match=r"dataset.json: the labels are regions \(whole, core\)"):
        check_dataset(dataset)


def test_voxels_that_are_ignored(dataset):
    describe(dataset, labels={"background": 0, "one": 1, "ignore": 2})
    report = check_dataset(dataset)
    assert (report.problems, report.label_cases) == ((), {"one": 3, "ignore": 2})
    describe(dataset, labels={"background": 0, "ignore": 1, "two": 2})
    assert check_dataset(dataset).problems == (
        "dataset.json: 'ignore' should be one integer, and the highest of all labels.",
    )


def test_files_that_dataset_json_names(dataset):
    """nnU-Net's `dataset`: the same files under other names, in one folder."""
    place = dataset / "all"
    place.mkdir()
    files = {}
    for name in NAMES:
        for old, new in (
            (f"imagesTr/{name}_0000", "ct"),
            (f"imagesTr/{name}_0001", "pet"),
            (f"labelsTr/{name}", "seg"),
        ):
            (dataset / f"{old}.nii.gz").rename(place / f"{name}-{new}.nii.gz")
        files[name] = {"images": [f"all/{name}-ct.nii.gz", f"all/{name}-pet.nii.gz"], "label": f"all/{name}-seg.nii.gz"}
    describe(dataset, dataset=files)
    report = check_dataset(dataset)
    assert (report.cases, report.problems, report.label_cases) == (3, (), {"one": 3, "two": 2})
    files["b"]["images"].pop()
    (place / "c-seg.nii.gz").unlink()
    describe(dataset, dataset=files)
    first, second = check_dataset(dataset).problems
    assert first == "b: channel 0001 is missing."
    assert re.match("c: .*c-seg.nii.gz: no such file", second)


@pytest.mark.parametrize("ending", [".mha", ".nrrd", ".nii"])
def test_files_of_another_format(dataset, ending):
    for path in (*dataset.glob("imagesTr/*"), *dataset.glob("labelsTr/*")):
        SimpleITK.WriteImage(SimpleITK.ReadImage(path), path.with_name(path.name.removesuffix(".nii.gz") + ending))
        path.unlink()
    describe(dataset, file_ending=ending)
    report = check_dataset(dataset)
    assert (report.problems, report.label_cases) == ((), {"one": 3, "two": 2})


def test_splits_that_name_what_is_not_there(dataset):
    (dataset / "splits_final.json").write_text(json.dumps([{"train": ["a", "z"], "val": ["a", "b"]}]))
    problems = check_dataset(dataset).problems
    assert "names missing cases: z" in problems[0]
    assert "both trains and validates on a" in problems[1]


def test_no_dataset(tmp_path):
    with pytest.raises(UserError, match=r"no dataset.json"):
        check_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UserError, match="not valid JSON"):
        check_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": {}}')
    with pytest.raises(UserError, match="no channel_names and no numTraining and no file_ending"):
        check_dataset(tmp_path)


def test_images_of_one_slice(dataset):
    for path in (*dataset.glob("imagesTr/*"), *dataset.glob("labelsTr/*")):
        image = nibabel.load(path)
        nibabel.save(nibabel.Nifti1Image(np.asanyarray(image.dataobj)[:, :, :1], image.affine), path)
    problems = check_dataset(dataset).problems
    assert [problem[:2] for problem in problems] == ["a:", "b:", "c:"]
    assert all("is 2D (one slice), but stunet's networks are 3D." in problem for problem in problems)


def test_hidden_files_are_no_cases(dataset):
    (dataset / "imagesTr" / "._a_0000.nii.gz").write_bytes(bytes(200))
    (dataset / "labelsTr" / "._a.nii.gz").write_bytes(bytes(200))
    report = check_dataset(dataset)
    (problem,) = report.problems
    assert report.cases == 3 and "contains hidden files, which are not images: ._a_0000.nii.gz." in problem
