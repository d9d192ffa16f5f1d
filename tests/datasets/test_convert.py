"""What all conversions share: resume, bad cases, links, and a folder that is no dataset until all is done."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet.datasets import convert as module
from stunet.datasets import flare22
from stunet.datasets.convert import ConversionSettings, convert, make_splits
from stunet.datasets.record import CaseRecord, append_case, read_cases
from stunet.datasets.source import Choice, SourceCase
from stunet.errors import UserError
from tests.datasets import published


@pytest.fixture
def source(tmp_path):
    return published.flare22(tmp_path / "source", 4)


@pytest.fixture
def settings(tmp_path):
    return ConversionSettings(22, tmp_path / "raw", partial=True, workers=1)


def found(source):
    return flare22.find(source, Choice(partial=True))


def image_of(source, number):
    return source / "Training" / flare22.LABELED / "images" / f"FLARE22_Tr_{number:04d}_0000.nii.gz"


def label_of(source, number):
    return source / "Training" / flare22.LABELED / "labels" / f"FLARE22_Tr_{number:04d}.nii.gz"


def test_an_interrupted_conversion_goes_on(source, settings, monkeypatch):
    begun = []
    real = module.convert_case

    def stopping(dataset, case, *arguments):
        begun.append(case.name[-1])
        if len(begun) == 3:
            raise KeyboardInterrupt
        return real(dataset, case, *arguments)

    monkeypatch.setattr(module, "convert_case", stopping)
    with pytest.raises(KeyboardInterrupt):
        convert(found(source), settings)
    folder = settings.root / "Dataset022_FLARE22"
    assert not (folder / "dataset.json").exists()
    first = folder / "labelsTr" / "FLARE22_Tr_0001.nii.gz"
    untouched = first.stat().st_mtime_ns
    done = len(read_cases(folder / "conversion_cases.jsonl"))
    leftover = folder / "imagesTr" / ".FLARE22_Tr_0004_0000.nii.gz.17.partial"  # of a conversion that was killed
    leftover.touch()
    begun.clear()
    monkeypatch.setattr(module, "convert_case", lambda *a: begun.append(a[1].name[-1]) or real(*a))
    conversion = convert(found(source), settings)
    assert len(begun) == 4 - done < 4 and len(conversion.written) == 4
    assert first.stat().st_mtime_ns == untouched and not leftover.exists()
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 4


def test_a_case_whose_files_went_is_made_again(source, settings):
    folder = convert(found(source), settings).folder
    label = folder / "labelsTr" / "FLARE22_Tr_0002.nii.gz"
    label.unlink()
    seen = []
    convert(found(source), settings, lambda done, total: seen.append((done, total)))
    assert label.is_file() and seen == [(3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        ("truncated", "too early"),
        ("no label", "no such file"),
        ("other grid", "resample one onto the other"),
        ("unknown label", "contains the label 14, but the dataset has labels up to 13"),
        ("not finite", "are not finite"),
    ],
)
def test_a_bad_case_costs_a_sentence_and_not_the_others(source, settings, damage, sentence):
    image, label = image_of(source, 2), label_of(source, 2)
    if damage == "truncated":
        image.write_bytes(image.read_bytes()[:-50])
    if damage == "no label":
        label.unlink()
    if damage == "other grid":
        published.write_nifti(label, published.blocks(1), (1.0, 1.5, 1.5))
    if damage == "unknown label":
        published.write_nifti(label, published.blocks(14))
    if damage == "not finite":
        published.write_nifti(image, np.where(published.scan(2) > 0, np.nan, published.scan(2)).astype(np.float32))
    conversion = convert(found(source), settings)
    assert [case.name for case in conversion.failed] == ["FLARE22_Tr_0002"]
    assert sentence in conversion.failed[0].error and "FLARE22_Tr_0002" in conversion.failed[0].error
    assert len(conversion.written) == 3
    names = [path.name for path in conversion.folder.rglob("*") if path.is_file()]
    assert not any("0002" in name or "partial" in name for name in names)
    assert json.loads((conversion.folder / "dataset.json").read_text())["numTraining"] == 3
    assert json.loads((conversion.folder / "conversion.json").read_text())["failed"]


def test_a_repaired_case_comes_along_when_it_is_started_again(source, settings):
    whole = image_of(source, 2).read_bytes()
    image_of(source, 2).write_bytes(whole[:-50])
    assert len(convert(found(source), settings).failed) == 1
    image_of(source, 2).write_bytes(whole)
    conversion = convert(found(source), settings)
    assert not conversion.failed
    assert json.loads((conversion.folder / "dataset.json").read_text())["numTraining"] == 4


def test_nothing_that_can_be_used(source, settings):
    for number in range(1, 5):
        image_of(source, number).write_bytes(b"")
    with pytest.raises(UserError, match=r"No training case .* could be converted: .*is empty"):
        convert(found(source), settings)
    assert not (settings.root / "Dataset022_FLARE22" / "dataset.json").exists()


def test_links(source, settings):
    folder = convert(found(source), replace(settings, link=True)).folder
    link = folder / "imagesTr" / "FLARE22_Tr_0001_0000.nii.gz"
    assert link.is_symlink() and link.resolve() == image_of(source, 1).resolve()
    assert not (folder / "labelsTr" / "FLARE22_Tr_0001.nii.gz").is_symlink()


def test_labels_get_the_images_geometry_and_their_names(source, settings):
    path = convert(found(source), settings).folder / "labelsTr" / "FLARE22_Tr_0001.nii.gz"
    label = nibabel.load(path)
    np.testing.assert_array_equal(label.affine, nibabel.load(image_of(source, 1)).affine)
    assert label.get_data_dtype() == np.uint8
    assert b"left kidney" in gzip.decompress(path.read_bytes())


def test_other_settings_than_it_was_begun_with(source, settings):
    convert(found(source), settings)
    with pytest.raises(UserError, match="begun with link False, not True"):
        convert(found(source), replace(settings, link=True))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [("Dataset022_Other", "already has dataset 22: Dataset022_Other"), ("Dataset022_FLARE22", "did not make")],
)
def test_a_number_that_is_taken(source, settings, name, sentence):
    (settings.root / name).mkdir(parents=True)
    (settings.root / name / "dataset.json").write_text("{}")
    with pytest.raises(UserError, match=sentence):
        convert(found(source), settings)


def test_a_number_that_is_none(source, settings):
    with pytest.raises(UserError, match="1 to 999, not 1000"):
        convert(found(source), replace(settings, number=1000))


def test_a_line_that_was_cut_off_does_not_count(tmp_path):
    log = tmp_path / "log.jsonl"
    record = CaseRecord("a", "val", "written", labels=(1, 2), overlaps={"x under y": 3}, spacing=(1.0, 2.0, 3.0))
    append_case(log, record)
    log.write_text(log.read_text() + '{"name": "b", "part": "tr')
    assert read_cases(log) == {"a": record}


def test_no_split_of_its_own_leaves_it_to_nnunet():
    assert make_splits([SourceCase(str(n), (), None) for n in range(9)]) == []
    assert make_splits([SourceCase(str(n), (), None, group="one patient") for n in range(9)]) == []


def test_a_case_whose_name_is_not_utf8_is_recorded(tmp_path):
    record = CaseRecord("c\udce4se", "training", "written")
    append_case(tmp_path / "cases.jsonl", record)
    assert read_cases(tmp_path / "cases.jsonl") == {record.name: record}


def test_a_place_that_cannot_be_written_is_found_before_any_case_is_read(source, settings, monkeypatch):
    monkeypatch.setattr(module, "convert_case", None)
    with pytest.raises(UserError, match=r"/proc/none/Dataset022_FLARE22: cannot be written to"):
        convert(found(source), replace(settings, root=Path("/proc/none")))
