import json

import nibabel
import numpy as np
import pytest

from stunet.imaging.formats.registry import read_labels
from stunet.inference.predictor import Predictor
from tests.cli.conftest import write_scan
from tests.inference.samples import tiny_model


def test_a_scan(stunet, capsys, scan, model_file, tmp_path):
    output = tmp_path / "labels.nii.gz"
    assert stunet("predict", "-i", scan, "-o", output, "-m", model_file, "--json") == 0
    captured = capsys.readouterr()
    record = json.loads(captured.out)
    written, source = nibabel.load(output), nibabel.load(scan)
    labels = np.asarray(written.dataobj)
    assert np.array_equal(labels.T, Predictor(tiny_model(num_classes=3)).predict(scan).labels)
    assert np.array_equal(written.affine, source.affine)
    assert record["volumes_mm3"] == {f"class_{n}": pytest.approx((labels == n).sum() * 3.0) for n in (1, 2)}
    assert json.loads((tmp_path / "labels.report.json").read_text()) == record
    assert record["files"] == [str(output)]


def test_all_that_can_be_written(stunet, scan, model_file, tmp_path):
    wanted = ("--statistics", "--preview", "--itksnap", "--slicer", "--probabilities", "--classes", "class_2")
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file, *wanted) == 0
    names = {
        "labels.nii.gz",
        "labels.report.json",
        "labels.statistics.json",
        "labels.preview.png",
        "labels.itksnap.txt",
        "labels.ctbl",
        "labels.probabilities",
    }
    assert {path.name for path in tmp_path.iterdir()} >= names
    assert [path.name for path in (tmp_path / "labels.probabilities").iterdir()] == ["class_2.nii.gz"]
    assert set(np.unique(np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj))) <= {0, 2}


def without_orientation(path):
    """Take qform and sform out of a scan's header."""
    image = nibabel.load(path)
    image = nibabel.Nifti1Image(np.asarray(image.dataobj), None, image.header)
    image.header["qform_code"] = image.header["sform_code"] = 0
    nibabel.save(image, path)


def test_a_guess_is_said_on_the_screen_and_in_the_report(stunet, capsys, scan, model_file, tmp_path):
    without_orientation(scan)
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file) == 0
    warning = f"{scan}: the header does not say how the scan lies in the patient"
    assert capsys.readouterr().err.count(warning) == 1
    (written,) = json.loads((tmp_path / "labels.report.json").read_text())["warnings"]
    assert written.startswith(warning)


def test_a_guess_in_a_folder_is_said_of_its_scan(stunet, capsys, model_file, tmp_path):
    for seed, name in enumerate("ab"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    without_orientation(tmp_path / "scans" / "b.nii.gz")
    assert stunet("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file) == 0
    warning = f"{tmp_path / 'scans' / 'b.nii.gz'}: the header does not say how the scan lies in the patient"
    assert capsys.readouterr().err.count(warning) == 1
    first, second = json.loads((tmp_path / "out" / "stunet_report.json").read_text())["cases"]
    assert first["warnings"] == []
    assert second["warnings"][0].startswith(warning)


@pytest.mark.parametrize("name", ["LABELS.NII.GZ", "labels.nrrd", "labels.seg.nrrd", "labels.mha"])
def test_a_label_map_in_every_format(stunet, scan, model_file, tmp_path, name):
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file) == 0
    assert stunet("predict", "-i", scan, "-o", tmp_path / name, "-m", model_file) == 0
    expected, written = read_labels(tmp_path / "labels.nii.gz"), read_labels(tmp_path / name)
    assert np.array_equal(expected.array, written.array)
    assert np.allclose(expected.affine, written.affine, atol=1e-4)


def test_one_mask_per_structure_of_a_folder(stunet, model_file, tmp_path):
    for seed, name in enumerate("ab"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    assert stunet("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file, "--separate") == 0
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert files == [f"{case}/class_{label}.nii.gz" for case in "ab" for label in (1, 2)]


def test_resuming_a_folder(stunet, capsys, model_file, tmp_path):
    for seed, name in enumerate("ab"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    arguments = ("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file, "--json")
    assert stunet(*arguments) == 0
    (tmp_path / "out" / "b.nii.gz").unlink()
    capsys.readouterr()
    assert stunet(*arguments, "--resume") == 0
    first, second = json.loads(capsys.readouterr().out)["cases"]
    assert first["resumed"] and "resumed" not in second


@pytest.mark.parametrize("options", [("--backend", "torch", "--precision", "float32"), ("--fast",), ("--mirror",)])
def test_settings_reach_the_record(stunet, capsys, scan, model_file, tmp_path, options):
    arguments = ("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file, "--json")
    assert stunet(*arguments, *options) == 0
    record = json.loads(capsys.readouterr().out)
    if "--backend" in options:
        assert record["backend"] == {"name": "torch", "precision": "float32"}
    assert record["settings"]["least_spacing"] == (3.0 if "--fast" in options else None)
    assert record["settings"]["mirror"] == ("--mirror" in options)


def test_what_people_see(stunet, capsys, scan, model_file, tmp_path):
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii", "-m", model_file) == 0
    shown = capsys.readouterr().out
    assert "class_1" in shown and "mm³" in shown


def test_a_folder_with_a_corrupt_scan(stunet, capsys, tmp_path, model_file):
    for seed, name in enumerate(("a_0000", "c")):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    (tmp_path / "scans" / "b.nii.gz").write_bytes(b"no scan")
    assert stunet("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file, "--json") == 2
    captured = capsys.readouterr()
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.nii.gz", "c.nii.gz", "stunet_report.json"]
    chosen, sentence = captured.err.splitlines()
    assert "by openvino" in chosen or "by torch" in chosen
    assert "b.nii.gz" in sentence
    cases = {case["case"]: case for case in json.loads(captured.out)["cases"]}
    assert "b.nii.gz" in cases["b"]["error"]
    assert cases["a"]["output"].endswith("a.nii.gz")


def test_a_folder_that_is_all_well(stunet, capsys, tmp_path, model_file):
    write_scan(tmp_path / "scans" / "a.nii.gz")
    assert stunet("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file) == 0
    assert "1 of 1 scans segmented" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "output", "sentence"),
    [
        ("scan.nii.gz", "labels.png", "labels.png: a label map cannot be written in this format"),
        ("scan.nii.gz", "lost/labels.nii.gz", "lost: there is no such folder"),
        ("scan.nii.gz", "scan.nii.gz", "overwrite the scan"),
        ("lost.nii.gz", "labels.nii.gz", "lost.nii.gz"),
        ("scans", "labels.nii.gz", "scans is a folder of scans, so -o must be a folder"),
        ("scans", "scans", "overwrite the scans"),
        ("empty", "labels.nii.gz", "empty"),
    ],
)
def test_paths_that_cannot_be_right(stunet, capsys, tmp_path, scan, model_file, given, output, sentence):
    write_scan(tmp_path / "scans" / "a.nii.gz")
    (tmp_path / "empty").mkdir()
    before = sorted(tmp_path.rglob("*"))
    assert stunet("predict", "-i", tmp_path / given, "-o", tmp_path / output, "-m", model_file) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_scan_is_told_before_a_model_is_looked_for(stunet, capsys, tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"no scan")
    assert stunet("predict", "-i", tmp_path / "scan.nii.gz", "-o", tmp_path / "labels.nii.gz", "-m", "no model") == 2
    assert "scan.nii.gz" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-m", "hipocampus"], "There is no model 'hipocampus'"),
        (["-f", "0"], "has no folds to choose from"),
        (["--step", "0"], "The step between windows"),
        (["--classes", "class_9"], "has no structure 'class_9'"),
        (["--precision", "float16"], "does not compute in float16"),
        (["--resume"], "--resume is for a folder of scans"),
        (["--separate"], "needs a folder"),
    ],
)
def test_options_that_cannot_be_right(stunet, capsys, tmp_path, scan, model_file, options, sentence):
    arguments = ["-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file, *options]
    assert stunet("predict", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "labels.nii.gz").exists()
