import json
import os
import subprocess
import sys

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
    warning = f"{scan}: the header does not say how the scan is oriented in the patient"
    assert capsys.readouterr().err.count(warning) == 1
    (written,) = json.loads((tmp_path / "labels.report.json").read_text())["warnings"]
    assert written.startswith(warning)


def test_a_guess_in_a_folder_is_said_of_its_scan(stunet, capsys, model_file, tmp_path):
    for seed, name in enumerate("ab"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    without_orientation(tmp_path / "scans" / "b.nii.gz")
    assert stunet("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file) == 0
    warning = f"{tmp_path / 'scans' / 'b.nii.gz'}: the header does not say how the scan is oriented in the patient"
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


def test_a_missing_folder_is_made(stunet, scan, model_file, tmp_path):
    assert stunet("predict", "-i", scan, "-o", tmp_path / "new" / "er" / "labels.nii.gz", "-m", model_file) == 0
    assert (tmp_path / "new" / "er" / "labels.nii.gz").is_file()


def test_a_scan_into_a_folder_that_exists(stunet, scan, model_file, tmp_path):
    (tmp_path / "out").mkdir()
    assert stunet("predict", "-i", scan, "-o", tmp_path / "out", "-m", model_file) == 0
    assert (tmp_path / "out" / "scan.nii.gz").is_file()


def test_several_scans_after_i(stunet, model_file, tmp_path):
    scans = [write_scan(tmp_path / f"{name}.nii.gz", seed) for seed, name in enumerate("ab")]
    assert stunet("predict", "-i", *scans, "-o", tmp_path / "out", "-m", model_file) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]


def test_without_a_model_the_answer_says_which_there_are(stunet, capsys, scan, tmp_path):
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz") == 2
    said = capsys.readouterr().err
    assert "Which model?" in said and "-m base" in said and "CT, 104 structures" in said
    assert "-m hippocampus" in said and "MR, anterior and posterior hippocampus" in said


def test_without_a_model_a_ct_is_said_to_be_like_one(stunet, capsys, scan, tmp_path):
    image = nibabel.load(scan)
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj).clip(0) - 1024, image.affine), scan)
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz") == 2
    assert f"{scan} has values down to -1024, like a CT." in capsys.readouterr().err


def test_without_a_model_a_scan_that_is_no_ct_is_said_to_be_so(stunet, capsys, scan, tmp_path):
    image = nibabel.load(scan)
    nibabel.save(nibabel.Nifti1Image(np.abs(np.asarray(image.dataobj)), image.affine), scan)
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz") == 2
    assert f"{scan} has no negative values, so it is MR or PET" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "before", "file"),
    [
        ((), 2, "a.nii.gz"),
        (("--separate",), 1, "a/class_1.nii.gz"),
        (("--statistics",), 0, "a.statistics.json"),
        (("--preview",), 0, "a.preview.png"),
    ],
)
def test_resuming_makes_what_is_missing(stunet, capsys, model_file, tmp_path, options, before, file):
    """An empty folder of masks is not done, and neither are labels whose statistics are asked for later."""
    for seed, name in enumerate("ab"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    arguments = ["predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file]
    if options == ("--separate",):
        arguments += options
    assert stunet(*arguments) == 0
    if options == ("--separate",):
        for mask in (tmp_path / "out" / "a").iterdir():
            mask.unlink()
    capsys.readouterr()
    assert stunet(*arguments, *options, "--resume") == 0
    said = capsys.readouterr().err
    assert "2 of 2 scans segmented" in said
    assert (f", {before} of them before" in said) == (before > 0)
    assert (tmp_path / "out" / file).exists()
    report = json.loads((tmp_path / "out" / "stunet_report.json").read_text())
    assert [case["case"] for case in report["cases"]] == ["a", "b"]
    assert all(case["volumes_mm3"] for case in report["cases"]), "the records of the first run are kept"


def test_resuming_after_a_record_was_cut_off(stunet, capsys, model_file, tmp_path):
    """Within a letter of two bytes, as a process that is killed may leave it."""
    for seed, name in enumerate("abö"):
        write_scan(tmp_path / "scans" / f"{name}.nii.gz", seed)
    arguments = ["predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file]
    assert stunet(*arguments) == 0
    records = tmp_path / "out" / "stunet_cases.jsonl"
    content = records.read_bytes()
    records.write_bytes(content[: content.rindex("ö".encode()) + 1])
    (tmp_path / "out" / "a.nii.gz").unlink()
    capsys.readouterr()
    assert stunet(*arguments, "--resume") == 0
    said = capsys.readouterr().err
    assert "3 of 3 scans segmented" in said and ", 2 of them before" in said
    assert f"{tmp_path / 'out'}: the labels of ö were there, without a record of the model" in said and "kept" in said
    report = json.loads((tmp_path / "out" / "stunet_report.json").read_text(encoding="utf-8"))
    assert len(report["warnings"]) == 1 and "the labels of ö" in report["warnings"][0]
    assert stunet(*arguments, "--resume") == 0
    report = json.loads((tmp_path / "out" / "stunet_report.json").read_text(encoding="utf-8"))
    assert [case["case"] for case in report["cases"] if "volumes_mm3" in case] == ["a", "b"]


def test_resuming_with_more_scans_counts_all(stunet, capsys, model_file, tmp_path):
    first, second = (write_scan(tmp_path / f"{name}.nii.gz") for name in "ab")
    arguments = ("-o", tmp_path / "out", "-m", model_file, "--resume")
    (tmp_path / "out").mkdir()
    assert stunet("predict", "-i", first, *arguments) == 0
    assert stunet("predict", "-i", second, *arguments) == 0
    assert "2 of 2 scans segmented" in capsys.readouterr().err


def test_a_folder_is_not_filled_by_two_models(stunet, capsys, model_file, tmp_path):
    write_scan(tmp_path / "scans" / "a.nii.gz")
    arguments = ("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file)
    assert stunet(*arguments) == 0
    assert stunet(*arguments, "--resume", "--step", "1") == 2
    assert "step 0.5, now 1.0" in capsys.readouterr().err
    assert stunet(*arguments, "--resume", "--device", "cpu") == 0


@pytest.mark.parametrize("encoding", ["gbk", "ascii"])
@pytest.mark.parametrize("name", [b"sc\xe4n_\xff.nii.gz", "größe³_头.nii.gz".encode()])
def test_every_terminal_can_show_what_came_out(scan, model_file, tmp_path, encoding, name):
    """Also a name that is not UTF-8."""
    odd = os.fsdecode(name)
    (tmp_path / odd).write_bytes(scan.read_bytes())
    for options in ((), ("--json",)):
        command = (sys.executable, "-m", "stunet", "predict", "-m", model_file, "-i", odd, "-o", "labels.nii.gz")
        environment = {**os.environ, "PYTHONIOENCODING": encoding, "STUNET_HOME": str(tmp_path / "home")}
        done = subprocess.run((*command, *options), cwd=tmp_path, env=environment, capture_output=True)
        assert done.returncode == 0, done.stderr
        assert b"class_1" in done.stdout
    record = json.loads((tmp_path / "labels.report.json").read_text(encoding="utf-8"))
    assert record["input"] == odd
    assert json.loads(done.stdout.decode(encoding)) == record


def test_a_picture_and_statistics_of_a_name_that_is_not_utf8(stunet, scan, model_file, tmp_path):
    odd = os.fsdecode(b"sc\xe4n")
    scan.rename(tmp_path / f"{odd}.nii.gz")
    paths = ("-i", tmp_path / f"{odd}.nii.gz", "-o", tmp_path / f"out_{odd}.nii.gz")
    assert stunet("predict", *paths, "-m", model_file, "--preview", "--statistics", "--json") == 0
    assert (tmp_path / f"out_{odd}.preview.png").read_bytes().startswith(b"\x89PNG")
    assert "class_1" in json.loads((tmp_path / f"out_{odd}.statistics.json").read_text())


def test_a_folder_with_a_name_that_is_not_utf8(stunet, scan, model_file, tmp_path):
    odd = tmp_path / "scans" / os.fsdecode(b"sc\xe4n.nii.gz")
    odd.parent.mkdir()
    odd.write_bytes(scan.read_bytes())
    assert stunet("predict", "-i", odd.parent, "-o", tmp_path / "out", "-m", model_file, "--itksnap") == 0
    (case,) = json.loads((tmp_path / "out" / "stunet_report.json").read_text())["cases"]
    assert case["case"] == os.fsdecode(b"sc\xe4n")


def test_a_home_that_cannot_be_written_only_costs_the_cache(stunet, monkeypatch, scan, model_file, tmp_path):
    monkeypatch.setenv("STUNET_HOME", "/proc/none")
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file) == 0


def test_without_the_module_resource_as_on_windows(stunet, capsys, monkeypatch, scan, model_file, tmp_path):
    monkeypatch.setitem(sys.modules, "resource", None)
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file, "--json") == 0
    assert json.loads(capsys.readouterr().out)["peak_memory_mib"] is None


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
    files = ["a.nii.gz", "c.nii.gz", "stunet_cases.jsonl", "stunet_report.json"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == files
    chosen, first, sentence, last = captured.err.splitlines()
    assert "by openvino" in chosen or "by torch" in chosen
    assert first.startswith("1/3 a: ") and "b.nii.gz" in sentence and last.startswith("3/3 c: ")
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
        ("scan.nii.gz", "/proc/none/labels.nii.gz", "/proc/none: cannot be written to"),
        ("scan.nii.gz", f"{'x' * 250}.nii.gz", "the name of this output would have"),
        ("scan.nii.gz", "scan.nii.gz", "overwrite the scan"),
        ("lost.nii.gz", "labels.nii.gz", "lost.nii.gz"),
        ("scans", "labels.nii.gz", "scans is a folder of 2 scans, so -o must be a folder"),
        ("scans", "scans", "overwrite the scans"),
        ("empty", "labels.nii.gz", "empty"),
    ],
)
def test_paths_that_cannot_be_right(stunet, capsys, tmp_path, scan, model_file, given, output, sentence):
    for name in "ab":
        write_scan(tmp_path / "scans" / f"{name}.nii.gz")
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
        (["--classes", "class_9"], "no structure 'class_9'"),
        (["--precision", "float16"], "does not support float16"),
        (["--resume"], "--resume is for a folder of scans"),
        (["--separate"], "needs a folder"),
    ],
)
def test_options_that_cannot_be_right(stunet, capsys, tmp_path, scan, model_file, options, sentence):
    arguments = ["-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file, *options]
    assert stunet("predict", *arguments) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "labels.nii.gz").exists()
