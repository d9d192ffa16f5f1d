"""The content of a dataset.json and the files of its cases, compared with nnU-Net's own reading."""

import json
import re

import pytest

from stunet.errors import UserError
from stunet.imaging.formats.registry import READERS, WRITERS
from stunet.plans.labels import LabelTable
from stunet.plans.raw_dataset import FILE_ENDINGS, read_raw_dataset

CONTENT = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "whole": [1, 2], "core": [2], "ignore": 3},
    "regions_class_order": [1, 2],
    "numTraining": 2,
    "file_ending": ".mha",
}


@pytest.fixture
def dataset(tmp_path):
    folder = tmp_path / "Dataset005_Small"
    for place in (
        "imagesTr/b_0000",
        "imagesTr/b_0001",
        "imagesTr/a_0000",
        "imagesTr/a_0001",
        "labelsTr/a",
        "labelsTr/b",
    ):
        path = folder / f"{place}.mha"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (folder / "imagesTr" / "a_0000.nii.gz").touch()
    (folder / "labelsTr" / "._a.mha").touch()
    describe(folder)
    return folder


def describe(folder, without=(), **changes):
    content = {key: value for key, value in {**CONTENT, **changes}.items() if key not in without}
    (folder / "dataset.json").write_text(json.dumps(content))


def nnunets_files(folder):
    """Case -> images and label map, as nnU-Net finds them."""
    utilities = pytest.importorskip("nnunetv2.utilities.utils")
    found = utilities.get_filenames_of_train_images_and_targets(str(folder))
    return {str(case): [*files["images"], files["label"]] for case, files in found.items()}


def our_files(dataset):
    return {
        case: [str(files[name]) for name in (*dataset.channel_numbers, "label")]
        for case, files in dataset.training_files().items()
    }


def test_all_that_it_says(dataset):
    read = read_raw_dataset(dataset)
    assert (read.channels, read.channel_numbers) == (("T1", "T2"), ("0000", "0001"))
    assert read.labels == LabelTable({1: "whole", 2: "core"}, {1: (1, 2), 2: (2,)}, 3)
    assert (read.stated_cases, read.file_ending, read.problems) == (2, ".mha", ())


def test_files_in_folders(dataset):
    ours = our_files(read_raw_dataset(dataset))
    assert ours == nnunets_files(dataset)
    assert list(ours) == ["a", "b"]


def test_files_that_dataset_json_names(dataset, tmp_path, monkeypatch):
    """Paths relative to the folder, above it, absolute, or with a variable."""
    monkeypatch.setenv("PLACE", str(tmp_path / "elsewhere"))
    described = {
        "z": {"images": ["x/1.mha", "../other/2.mha"], "label": "$PLACE/label.mha"},
        "c": {"images": [f"{tmp_path}/3.mha", "4.mha"], "label": "5.mha"},
    }
    describe(dataset, dataset=described)
    read = read_raw_dataset(dataset)
    resolved = {case: [str(path.resolve()) for path in files.values()] for case, files in read.training_files().items()}
    assert resolved == nnunets_files(dataset)
    assert list(resolved) == ["z", "c"]
    assert resolved["z"][1:] == [str(tmp_path / "other" / "2.mha"), str(tmp_path / "elsewhere" / "label.mha")]


def test_what_trains_is_what_stunet_reads_and_writes_and_nnunet_reads():
    registry = pytest.importorskip("nnunetv2.imageio.reader_writer_registry")
    theirs = {ending for reader in registry.LIST_OF_IO_CLASSES for ending in reader.supported_file_endings}
    assert set(FILE_ENDINGS) == READERS.keys() & WRITERS.keys() & theirs


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"channel_names": ["T1", "T2"]}, r'list, .* write "channel_names": \{"0": "T1", "1": "T2"\}'),
        ({"channel_names": {"T1": 0}}, "numbers first"),
        ({"channel_names": "T1"}, "numbers first"),
        ({"numTraining": "2"}, "numTraining as '2', which is not a whole number"),
        ({"file_ending": "mha"}, r"is 'mha'; write '\.mha'"),
        ({"file_ending": ".NII.GZ"}, r"is '\.NII\.GZ'; write '\.nii\.gz'"),
        ({"file_ending": ".png"}, r"images that end with \.png are 2D"),
        ({"file_ending": ".mhd"}, r"is '\.mhd', but .* end in \.nii\.gz, \.nii, \.nrrd, \.mha\. Convert"),
        ({"file_ending": ".tif"}, r"is '\.tif', but"),
        ({"file_ending": None}, "is None, but"),
        (
            {"labels": {"background": 0, "a": 1}, "without": ["numTraining", "file_ending"]},
            "no numTraining and no file_",
        ),
        ({"labels": {"background": 0, "whole": [1, 2]}}, "'regions_class_order' must be a list of 1"),
        ({"labels": None}, "no table of labels"),
    ],
)
def test_what_it_cannot_mean(dataset, changes, sentence):
    describe(dataset, **changes)
    with pytest.raises(UserError, match=sentence) as refusal:
        read_raw_dataset(dataset)
    assert str(dataset / "dataset.json") in str(refusal.value)


def test_a_dataset_json_of_version_1_becomes_one_of_version_2(tmp_path):
    """The message lists the new entries; with them, the file is read."""
    old = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "liver"}, "numTraining": 0}
    (tmp_path / "dataset.json").write_text(json.dumps(old))
    with pytest.raises(UserError, match=r"has the form of nnU-Net v1.*convert msd") as refusal:
        read_raw_dataset(tmp_path)
    entries = re.search(r"version 2 write (.*?)\. The name of each image", str(refusal.value))
    new = {**old, **json.loads(f"{{{entries[1]}}}")}
    (tmp_path / "dataset.json").write_text(json.dumps(new))
    read = read_raw_dataset(tmp_path)
    assert (read.channels, dict(read.labels.names), read.file_ending) == (("MRI",), {1: "liver"}, ".nii.gz")
    assert read.problems == ()


def test_labels_alone_may_be_those_of_version_1(dataset):
    describe(dataset, labels={"0": "background", "1": "liver"})
    with pytest.raises(UserError, match=r'version 2 write "labels": \{"background": 0, "liver": 1\}\. The'):
        read_raw_dataset(dataset)


@pytest.mark.parametrize("numbers", [("1", "0"), ("1", "2"), ("0000", "0001")])
def test_channels_that_nnunet_would_take_for_others(dataset, numbers):
    """nnU-Net numbers the channels in the order of the file and ignores the keys."""
    describe(dataset, channel_names=dict(zip(numbers, ("T1", "T2"), strict=True)))
    (problem,) = read_raw_dataset(dataset).problems
    assert f"should be 0, 1, in this order, not {', '.join(numbers)}" in problem


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        (["a"], "should name the files of each case"),
        ({"a": {"images": ["a.mha"]}}, "should name .*'label'"),
        ({"a": {"images": "a.mha", "label": "b.mha"}}, "images should be a list"),
        ({"a": {"images": [1], "label": "b.mha"}}, "should name the files"),
        ({"a": {"images": ["a.mha"], "label": "b.nrrd"}}, r"do not end in \.mha, the file_ending: .*b\.nrrd"),
    ],
)
def test_a_list_of_files_that_cannot_be_understood(dataset, files, sentence):
    describe(dataset, dataset=files)
    with pytest.raises(UserError, match=sentence):
        read_raw_dataset(dataset).training_files()


def test_hidden_images(dataset):
    read_raw_dataset(dataset).require_no_hidden_images()
    (dataset / "imagesTr" / "._a_0000.mha").touch()
    with pytest.raises(UserError, match=r"hidden files.*: \._a_0000\.mha\."):
        read_raw_dataset(dataset).require_no_hidden_images()
