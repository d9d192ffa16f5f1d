import csv
import json
import os

import nibabel
import numpy as np
import pytest


@pytest.fixture
def pair(tmp_path):
    """Label 1 is half right; label 7 has no name."""
    for name, values in (("prediction", [1, 1, 0, 0, 0, 0, 0, 0]), ("reference", [1, 0, 1, 0, 0, 0, 0, 7])):
        array = np.array(values, np.uint8).reshape(2, 2, 2)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    return ["-p", tmp_path / "prediction.nii.gz", "-r", tmp_path / "reference.nii.gz"]


@pytest.fixture
def names(tmp_path):
    def write(content):
        (tmp_path / "dataset.json").write_text(json.dumps(content))
        return tmp_path / "dataset.json"

    return write


@pytest.fixture
def folders(tmp_path):
    """Six cases of liver (40) and spleen (77); the second system is a voxel off along x."""
    random = np.random.default_rng(0)
    for case in range(6):
        reference = np.zeros((14, 12, 10), np.uint8)
        z, y, x = random.integers(1, 4, 3)
        reference[z : z + 6, y : y + 5, x : x + 4] = 40
        reference[1:4, 8:11, 7:9] = 77
        for folder, array in (
            ("references", reference),
            ("first", np.where(random.random(reference.shape) < 0.02, 0, reference)),
            ("second", np.roll(reference, 1, axis=0)),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            image = nibabel.Nifti1Image(array.astype(np.uint8), np.diag([1.5, 1.5, 3, 1]))
            nibabel.save(image, tmp_path / folder / f"case_{case}.nii.gz")
    return tmp_path


def test_json(stunet, capsys, pair, tmp_path):
    assert stunet("evaluate", *pair, "--json", "-o", tmp_path / "report.json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert {name: entry["value"] for name, entry in shown["metrics"]["dsc"]["per_label"].items()} == {"1": 0.5, "7": 0}
    assert shown == json.loads((tmp_path / "report.json").read_text())


def test_a_table_with_names(stunet, capsys, pair, names):
    labels = {"background": 0, "liver": 1, "cyst": 7, "aorta": 3}
    assert stunet("evaluate", *pair, "--names", names({"labels": labels})) == 0
    shown = capsys.readouterr().out
    assert "DSC of prediction, 1 case" in shown and "liver" in shown and "0.5000" in shown and "absent" in shown


def test_two_systems_with_all_there_is(stunet, capsys, folders):
    outputs = [folders / f"report.{suffix}" for suffix in ("json", "csv", "md", "tex")]
    systems = ("-p", folders / "first", "-r", folders / "references", "--against", folders / "second")
    choices = ("--metrics", "dsc", "nsd", "hd95", "--tolerance", "1", "--groups", "--worst", "2", "--workers", "2")
    assert stunet("evaluate", *systems, *choices, "--pictures", folders / "pictures", "-o", *outputs) == 0
    shown = capsys.readouterr().out
    assert "DSC, NSD, HD95 of first, 6 cases" in shown and "HD95 (mm) against second" in shown
    assert "group: organs" in shown and "Worst cases" in shown
    content = json.loads(outputs[0].read_text())
    difference = content["against"]["differences"]["dsc"]
    assert difference["mean"]["p_value"] == pytest.approx(2 / 2**6) and difference["mean"]["interval"][0] > 0
    assert content["metrics"]["nsd"]["tolerance_mm"]["liver"] == 1
    assert content["against"]["metrics"]["hd95"]["per_case"]["case_0"]["spleen"] == pytest.approx(1.5)
    rows = list(csv.DictReader(outputs[1].read_text().splitlines()))
    assert {row["system"] for row in rows} == {"first", "second"} and len(rows) == 2 * 6 * 104
    assert "**Worst cases**" in outputs[2].read_text() and r"\bottomrule" in outputs[3].read_text()
    assert len(list((folders / "pictures").glob("case_*_*.png"))) == 2


def test_reports_and_pictures_of_names_that_are_not_utf8(stunet, folders):
    odd = os.fsdecode(b"c\xe4se")
    for folder in ("first", "references"):
        for number in (1, 2, 3, 4, 5):
            (folders / folder / f"case_{number}.nii.gz").unlink()
        (folders / folder / "case_0.nii.gz").rename(folders / folder / f"{odd}.nii.gz")
    outputs = [folders / f"report.{suffix}" for suffix in ("json", "csv", "md", "tex")]
    systems = ("-p", folders / "first", "-r", folders / "references")
    assert (
        stunet("evaluate", *systems, "--worst", "1", "--pictures", folders / "pictures", "--json", "-o", *outputs) == 0
    )
    as_json, as_csv, as_markdown, as_latex = (path.read_text(encoding="utf-8") for path in outputs)
    assert set(json.loads(as_json)["metrics"]["dsc"]["per_case"]) == {odd}
    assert r"first,c\udce4se,40," in as_csv
    assert r"| c\\udce4se |" in as_markdown and r"c\textbackslash{}udce4se &" in as_latex
    assert [path.name for path in (folders / "pictures").iterdir()] == [f"{odd}_77.png"]


def test_same_seed_same_report(stunet, capsys, folders):
    shown = []
    for seed in (1, 1, 2):
        assert stunet("evaluate", "-p", folders / "first", "-r", folders / "references", "--seed", seed, "--json") == 0
        shown.append(json.loads(capsys.readouterr().out)["metrics"])
    assert shown[0] == shown[1] != shown[2]


def test_a_value_that_the_names_do_not_list(stunet, capsys, pair, names):
    assert stunet("evaluate", *pair, "--names", names({"labels": {"background": 0, "liver": 1}})) == 2
    assert "reference.nii.gz contains the value 7" in capsys.readouterr().err


def test_the_label_map_with_value_200(stunet, capsys, shared_data, names):
    from stunet.labels.ontology import LABELS

    file = shared_data / "bad_inputs" / "int16_label_values_200.nii.gz"
    listed = names({"labels": {name: value for value, name in enumerate(LABELS)}})
    assert stunet("evaluate", "-p", file, "-r", file, "--names", listed) == 2
    said = capsys.readouterr().err
    assert "int16_label_values_200.nii.gz contains the value 200" in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ([], "dataset.json should hold a JSON object"),
        ({}, "dataset.json: it has no table of labels"),
        ({"labels": {"liver": "one"}}, "dataset.json: the labels are not integers"),
        ({"labels": {"both": [1, 2]}}, "dataset.json: the labels are regions (both), so 'regions_class_order' must be"),
    ],
)
def test_names_that_are_none(stunet, capsys, pair, names, content, sentence):
    assert stunet("evaluate", *pair, "--names", names(content)) == 2
    assert sentence in capsys.readouterr().err


def test_groups_of_labels_without(stunet, capsys, pair, names):
    listed = names({"labels": {"background": 0, "tumour": 1, "cyst": 7}})
    assert stunet("evaluate", *pair, "--names", listed, "--groups") == 2
    assert "so there are no groups" in capsys.readouterr().err


def test_paths_that_cannot_be_right(stunet, capsys, pair, tmp_path):
    assert stunet("evaluate", "-p", tmp_path / "lost.nii.gz", *pair[2:]) == 2
    assert "lost.nii.gz" in capsys.readouterr().err
    assert stunet("evaluate", *pair, "-o", "/proc/none/report.json") == 2
    assert "/proc/none: cannot be written to" in capsys.readouterr().err
    assert stunet("evaluate", *pair, "--worst", "1", "--pictures", "/proc/none") == 2
    assert "/proc/none: cannot be written to" in capsys.readouterr().err
    pictures = ("--worst", "1", "--pictures", tmp_path / "pictures")
    assert stunet("evaluate", *pair, *pictures, "--images", tmp_path / "lost") == 2
    assert "lost: there is no such folder with scans" in capsys.readouterr().err
    assert stunet("evaluate", *pair, "-o", tmp_path / "report.doc") == 2
    assert "a report ends in .json, .csv, .md, .tex" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--pictures", "pictures"), "--worst 5"),
        (("--worst", "1", "--images", "images"), "--pictures"),
        (("--workers", "0"), "--workers 1 or more"),
        (("--tolerance", "wide"), "'wide' is not valid"),
        (("--metrics", "iou"), "iou"),
    ],
)
def test_options_that_cannot_be_right(stunet, capsys, pair, options, said):
    assert stunet("evaluate", *pair, *options) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("folder", ["predictions", "references"])
def test_two_files_of_one_name_are_refused_by_name(stunet, capsys, pair, tmp_path, folder):
    for name, file in (("predictions", pair[1]), ("references", pair[3])):
        (tmp_path / name).mkdir()
        nibabel.save(nibabel.load(file), tmp_path / name / "A.nii.gz")
    nibabel.save(nibabel.load(pair[3]), tmp_path / folder / "A.nii")
    assert stunet("evaluate", "-p", tmp_path / "predictions", "-r", tmp_path / "references") == 2
    said = capsys.readouterr().err
    assert f"{tmp_path / folder}: A.nii and A.nii.gz have the same case name; keep one of them." in said
