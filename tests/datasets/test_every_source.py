"""Each converter on a miniature in the published folder layout, and nnU-Net's own check of what comes out."""

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from stunet.datasets import amos22, autopet22, flare22, msd, totalsegmentator
from stunet.datasets.convert import SOURCES, ConversionSettings, convert
from stunet.datasets.source import Choice
from stunet.errors import UserError
from stunet.labels.ontology import LABELS
from tests.datasets import published

PATIENTS = {f"PETCT_{number}": [True, number == 0] for number in range(5)}

MINIATURES = {
    "totalsegmentator": lambda root: published.totalsegmentator(
        root, {"s0000": "train", "s0001": "val", "s0004": "test"}
    ),
    "msd": lambda root: published.msd(root / "Task02_Heart", ["MRI"], ["background", "left atrium"], 3, 1),
    "amos22": lambda root: published.amos22(root, amos22.LABELS, Tr=[1, 507], Va=[8], Ts=[2]),
    "flare22": lambda root: published.flare22(root, 3),
    "autopet22": lambda root: published.autopet22(root / "FDG-PET-CT-Lesions", PATIENTS).parent,
}


def converted(kind, source, tmp_path, modality=None, **settings):
    found = SOURCES[kind](source, Choice(modality, partial=True))
    return convert(found, ConversionSettings(7, tmp_path / "raw", partial=True, workers=2, **settings))


@pytest.fixture
def miniature(request, tmp_path):
    source = tmp_path / "source"
    return request.param, MINIATURES[request.param](source)


every_source = pytest.mark.parametrize("miniature", MINIATURES, indirect=True)


def test_every_source_has_a_miniature():
    assert set(MINIATURES) == set(SOURCES)


@every_source
def test_nnunet_accepts_what_comes_out(miniature, tmp_path, capsys, monkeypatch):
    integrity = pytest.importorskip("nnunetv2.experiment_planning.verify_dataset_integrity")

    class Serial:
        """nnU-Net's pool of processes, without processes."""

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def starmap(self, function, arguments):
            return [function(*one) for one in arguments]

    monkeypatch.setattr(
        integrity.multiprocessing, "get_context", lambda kind: type("C", (), {"Pool": lambda s, n: Serial()})()
    )
    kind, source = miniature
    conversion = converted(kind, source, tmp_path)
    assert not conversion.failed
    integrity.verify_dataset_integrity(str(conversion.folder), 1)
    assert "Error" not in capsys.readouterr().out


@every_source
def test_other_numbers_than_published_stop_it(miniature, tmp_path):
    kind, source = miniature
    found = SOURCES[kind](source, Choice())
    train = sum(case.part == "train" for case in found.cases)
    with pytest.raises(UserError, match=rf"{train} train cases were found, \d+.* were published.*--partial"):
        convert(found, ConversionSettings(7, tmp_path / "raw"))
    assert not (tmp_path / "raw").exists()


@every_source
def test_the_description(miniature, tmp_path):
    kind, source = miniature
    conversion = converted(kind, source, tmp_path)
    description = json.loads((conversion.folder / "dataset.json").read_text())
    assert description["licence"] and description["reference"].startswith("http")
    assert list(description["labels"].values()) == list(range(len(description["labels"])))
    assert description["numTraining"] == sum(case.part != "test" for case in conversion.written)
    assert conversion.differences  # a miniature is not the whole


def test_totalsegmentator_merges_masks_and_the_later_label_wins(tmp_path):
    conversion = converted("totalsegmentator", MINIATURES["totalsegmentator"](tmp_path / "source"), tmp_path)
    labels = published.read(conversion.folder / "labelsTr" / "s0000.nii.gz")
    aorta, liver = LABELS.index("aorta"), LABELS.index("liver")
    np.testing.assert_array_equal(labels, published.blocks(aorta, liver, liver))
    slice_voxels = int(np.prod(published.SHAPE[1:]))
    assert conversion.cases[0].overlaps == {"aorta under liver": slice_voxels}
    assert conversion.to_dict()["overlapping_voxels"] == 3 * slice_voxels
    assert json.loads((conversion.folder / "dataset.json").read_text())["labels"]["vertebrae_T9"] == 104


def test_totalsegmentators_own_split(tmp_path):
    conversion = converted("totalsegmentator", MINIATURES["totalsegmentator"](tmp_path / "source"), tmp_path)
    splits = json.loads((conversion.folder / "splits_final.json").read_text())
    assert splits == [{"train": ["s0000"], "val": ["s0001"]}]
    assert (conversion.folder / "imagesTs" / "s0004_0000.nii.gz").is_file()
    assert (conversion.folder / "labelsTs" / "s0004.nii.gz").is_file()


def test_totalsegmentators_published_numbers_and_names():
    assert totalsegmentator.PUBLISHED.cases == {"train": (1082, 1081), "val": (57,), "test": (65,)}
    assert len(totalsegmentator.PUBLISHED.labels) == 105


def test_a_missing_mask_is_an_error_unless_partial(tmp_path):
    source = MINIATURES["totalsegmentator"](tmp_path / "source")
    (source / "s0000" / "segmentations" / "brain.nii.gz").unlink()
    whole = replace(SOURCES["totalsegmentator"](source, Choice()), differences=())
    conversion = convert(whole, ConversionSettings(8, tmp_path / "raw"))
    assert "1 of 104 masks are missing (brain)" in conversion.failed[0].error
    partial = converted("totalsegmentator", source, tmp_path)
    assert partial.to_dict()["masks_missing"] == {"s0000": ["brain"]}


def test_the_damaged_subject_of_the_published_archive(tmp_path):
    source = published.totalsegmentator(tmp_path / "source", {"s0000": "train", "s0864": "train", "s0001": "val"})
    image = source / "s0864" / "ct.nii.gz"
    image.write_bytes(image.read_bytes()[:-40])
    conversion = converted("totalsegmentator", source, tmp_path)
    assert not conversion.failed
    assert "issue 92" in conversion.to_dict()["left_out"]["s0864"]
    assert json.loads((conversion.folder / "splits_final.json").read_text())[0]["train"] == ["s0000"]


def test_another_spacing_than_the_published_one_is_resampled(tmp_path):
    source = MINIATURES["totalsegmentator"](tmp_path / "source")
    published.write_nifti(source / "s0000" / "ct.nii.gz", published.scan(0), (3.0, 3.0, 3.0))
    for mask in (source / "s0000" / "segmentations").iterdir():
        published.write_nifti(mask, published.read(mask), (3.0, 3.0, 3.0))
    conversion = converted("totalsegmentator", source, tmp_path)
    assert conversion.to_dict()["resampled_from_mm"] == {"s0000": [3.0, 3.0, 3.0]}
    labels = published.read(conversion.folder / "labelsTr" / "s0000.nii.gz")
    np.testing.assert_array_equal(labels[::2, ::2, ::2], published.blocks(3, 40, 40))
    assert published.read(conversion.folder / "imagesTr" / "s0000_0000.nii.gz").dtype == np.int16


def test_a_real_scan_in_totalsegmentators_layout(shared_data, tmp_path):
    """A real CT of 3 mm and 39 of its structures, taken apart into masks, comes together again at 1.5 mm."""
    example = shared_data / "totalseg_example"
    labels = nibabel.load(example / "ct_crop_labels_stunet104.nii.gz")
    array, subject = np.asarray(labels.dataobj), tmp_path / "source" / "s0000"
    (subject / "segmentations").mkdir(parents=True)
    (subject / "ct.nii.gz").symlink_to(example / "ct_crop.nii.gz")
    for label, name in enumerate(LABELS[1:], start=1):
        mask = nibabel.Nifti1Image((array == label).astype(np.uint8), labels.affine)
        nibabel.save(mask, subject / "segmentations" / f"{name}.nii.gz")
    (tmp_path / "source" / "meta.csv").write_text("image_id;split\ns0000;train\n")
    conversion = converted("totalsegmentator", tmp_path / "source", tmp_path)
    assert conversion.to_dict()["overlapping_voxels"] == 0 and len(conversion.cases[0].labels) == 39
    merged = nibabel.load(conversion.folder / "labelsTr" / "s0000.nii.gz")
    np.testing.assert_array_equal(np.asarray(merged.dataobj)[::2, ::2, ::2], array)
    np.testing.assert_allclose(merged.header.get_zooms(), 1.5, rtol=1e-3)
    image = nibabel.load(conversion.folder / "imagesTr" / "s0000_0000.nii.gz")
    np.testing.assert_array_equal(image.affine, merged.affine)


def test_an_msd_task_of_four_channels(tmp_path):
    task = msd.TASKS["BrainTumour"]
    source = published.msd(tmp_path / "Task01_BrainTumour", list(task.channels), list(task.labels), 2, 1)
    conversion = converted("msd", source, tmp_path)
    image = published.read(source / "imagesTr" / "case_001.nii.gz")
    for channel in range(4):
        written = published.read(conversion.folder / "imagesTr" / f"case_001_{channel:04d}.nii.gz")
        np.testing.assert_array_equal(written, image[channel])
    assert conversion.folder.name == "Dataset007_BrainTumour"
    assert len(list((conversion.folder / "imagesTs").iterdir())) == 4
    description = json.loads((conversion.folder / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"}


def test_msds_published_numbers():
    """Three are in the STU-Net paper (appendix B); the Decathlon's papers count 2633 images in all."""
    paper = {"Liver": (131,), "Pancreas": (281,), "Spleen": (41,)}
    assert {name: msd.TASKS[name].training for name in paper} == paper
    assert sum(max(task.training) + max(task.test) for task in msd.TASKS.values()) == 2633


def test_real_hippocampi(shared_data, tmp_path):
    """Real cases, put into the Decathlon's layout again, come out byte for byte."""
    raw = shared_data / "Dataset004_Hippocampus"
    names = json.loads((raw / "mini.json").read_text())["train"][:3]
    source = published.hippocampi(raw, tmp_path / "Task04_Hippocampus", names)
    conversion = converted("msd", source, tmp_path)
    ours, theirs = (json.loads((folder / "dataset.json").read_text()) for folder in (conversion.folder, raw))
    for key in ("channel_names", "labels", "file_ending", "licence"):
        assert ours[key] == theirs[key]
    for name in names:
        image, label = f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz"
        assert (conversion.folder / image).read_bytes() == (raw / image).read_bytes()
        np.testing.assert_array_equal(published.read(conversion.folder / label), published.read(raw / label))


def test_labels_of_another_name_are_told(tmp_path):
    source = published.msd(tmp_path / "Task02_Heart", ["MRI"], ["background", "right atrium"], 3, 1)
    differences = SOURCES["msd"](source, Choice()).differences
    assert any("labels are background, right atrium; published were background, left atrium" in d for d in differences)


@pytest.mark.parametrize(("modality", "cases"), [(None, ["amos_0001", "amos_0500", "amos_0501"]), ("ct", 2), ("MR", 1)])
def test_amos22_by_modality(tmp_path, modality, cases):
    source = published.amos22(tmp_path / "amos22", amos22.LABELS, Tr=[1, 501], Va=[500])
    found = SOURCES["amos22"](tmp_path, Choice(modality)).cases
    assert ([case.name for case in found] if modality is None else len(found)) == cases
    if modality is None:
        conversion = converted("amos22", source, tmp_path)
        splits = json.loads((conversion.folder / "splits_final.json").read_text())
        assert splits == [{"train": ["amos_0001", "amos_0501"], "val": ["amos_0500"]}]


def test_amos22s_published_numbers():
    """The STU-Net paper, appendix B: 200 CT and 40 MR to train, 100 CT and 20 MR to validate."""
    for part in ("train", "val"):
        both = amos22.NUMBERS[None][part][0]
        assert both == amos22.NUMBERS["CT"][part][0] + amos22.NUMBERS["MR"][part][0]
    assert amos22.NUMBERS["CT"] == {"train": (200,), "val": (100,)}


def test_flare22_as_the_paper_has_it(tmp_path):
    conversion = converted("flare22", MINIATURES["flare22"](tmp_path / "source"), tmp_path)
    assert conversion.cases[0].name == "FLARE22_Tr_0001"
    assert flare22.PUBLISHED.cases == {"train": (50,)} and len(flare22.PUBLISHED.labels) == 14


@pytest.mark.parametrize(("modality", "channels"), [(None, ["CT", "PET"]), ("pet", ["PET"])])
def test_autopet22_by_modality(tmp_path, modality, channels):
    conversion = converted("autopet22", MINIATURES["autopet22"](tmp_path / "source"), tmp_path, modality)
    description = json.loads((conversion.folder / "dataset.json").read_text())
    assert list(description["channel_names"].values()) == channels
    case = conversion.cases[0].name
    assert case == "PETCT_0_05-01-2002-NA-PET-CT_Ganzkoerper_primaer_mit_KM-42960"
    last = published.read(conversion.folder / "imagesTr" / f"{case}_{len(channels) - 1:04d}.nii.gz")
    np.testing.assert_array_equal(last, published.scan(2).astype(np.float32))


def test_autopet22s_patients_stay_together(tmp_path):
    conversion = converted("autopet22", MINIATURES["autopet22"](tmp_path / "source"), tmp_path)
    splits = json.loads((conversion.folder / "splits_final.json").read_text())
    assert len(splits) == 5
    for fold in splits:
        patients = [{name[:7] for name in fold[part]} for part in ("train", "val")]
        assert not patients[0] & patients[1] and len(patients[1]) == 1


def test_autopet22_without_empty_studies(tmp_path):
    conversion = converted("autopet22", MINIATURES["autopet22"](tmp_path / "source"), tmp_path, only_labelled=True)
    assert len(conversion.written) == 6
    assert len(list((conversion.folder / "labelsTr").iterdir())) == 6
    assert "6 cases have labels, 501 were published" in conversion.differences[-1]
    assert autopet22.STUDIES == 1014


@pytest.mark.parametrize("kind", SOURCES)
def test_a_folder_that_holds_something_else(tmp_path, kind):
    with pytest.raises(UserError, match=r"has no .*unpacked"):
        SOURCES[kind](tmp_path, Choice())


@pytest.mark.parametrize(
    ("kind", "sentence"), [("flare22", "one modality"), ("amos22", "modalities CT, MR, not 'PET'")]
)
def test_a_modality_that_is_not_there(tmp_path, kind, sentence):
    with pytest.raises(UserError, match=sentence):
        SOURCES[kind](MINIATURES[kind](tmp_path), Choice(modality="PET"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"channel_names": {"0": "MRI"}}, r"in nnU-Net v2's raw layout already.*stunet dataset check"),
        ({"labels": {"background": 0, "a": 1}}, "should have numbers first"),
        ({"modality": ["MRI"]}, "should have numbers first"),
        ({"training": None}, "has no training"),
    ],
)
def test_a_dataset_json_that_is_not_the_decathlons(tmp_path, changes, sentence):
    path = MINIATURES["msd"](tmp_path) / "dataset.json"
    content = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))
    with pytest.raises(UserError, match=sentence):
        SOURCES["msd"](path.parent, Choice(partial=True))
