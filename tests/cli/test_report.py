import json

import nibabel

from tests.cli.conftest import write_scan


def test_a_report_of_what_predict_wrote(stunet, scan, model_file, tmp_path, capsys):
    labels = tmp_path / "out" / "labels.nii.gz"
    assert stunet("predict", "-i", scan, "-o", labels, "-m", model_file) == 0
    record = json.loads((tmp_path / "out" / "labels.report.json").read_text())
    found = [name.replace("_", " ") for name, mm3 in record["volumes_mm3"].items() if mm3]
    capsys.readouterr()
    assert stunet("report", "-i", scan, "-l", labels, "-o", tmp_path / "r" / "report.html", "--json") == 0
    assert json.loads(capsys.readouterr().out)["structures"] == len(found) > 0
    page = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert "<h1>labels</h1>" in page and all(name in page for name in found)
    assert record["model"]["card_sha256"] in page and record["versions"]["torch"] in page


def test_a_case_of_a_folder_has_its_names_from_the_folders_record(stunet, model_file, tmp_path):
    for case in ("a", "b"):
        write_scan(tmp_path / "scans" / f"{case}.nii.gz", seed=ord(case))
    assert stunet("predict", "-i", tmp_path / "scans", "-o", tmp_path / "out", "-m", model_file) == 0
    record = json.loads((tmp_path / "out" / "stunet_report.json").read_text())
    report = tmp_path / "b.html"
    options = ("-i", tmp_path / "scans/b.nii.gz", "-l", tmp_path / "out/b.nii.gz", "-o", report, "--title", "Patient B")
    assert stunet("report", *options) == 0
    page = report.read_text(encoding="utf-8")
    names = [name.replace("_", " ") for name in record["cases"][1]["volumes_mm3"]]
    assert "<h1>Patient B</h1>" in page and all(name in page for name in names)


def test_names_without_a_record(stunet, scan, model_file, tmp_path, capsys):
    labels = tmp_path / "labels.nii.gz"
    stunet("predict", "-i", scan, "-o", labels, "-m", model_file)
    (tmp_path / "labels.report.json").unlink()
    options = ("-i", scan, "-l", labels, "-o", tmp_path / "report.html")
    assert stunet("report", *options) == 0
    assert "labels.nii.gz: the structures have no names" in capsys.readouterr().err
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "label 1" in page and "the structures have no names" in page
    names = tmp_path / "dataset.json"
    names.write_text(json.dumps({"labels": {"background": 0, "head": 1, "tail": 2}}))
    assert stunet("report", *options, "--names", names) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "head" in page and "tail" in page and "label 1" not in page and "no names" not in page


def test_refusals_leave_nothing(stunet, scan, model_file, tmp_path, capsys):
    labels = tmp_path / "labels.nii.gz"
    stunet("predict", "-i", scan, "-o", labels, "-m", model_file)
    other = tmp_path / "other.nii.gz"
    image = nibabel.load(scan)
    nibabel.save(image.slicer[:10], other)
    assert stunet("report", "-i", other, "-l", labels, "-o", tmp_path / "report.pdf") == 2
    assert "resample one onto the other first" in capsys.readouterr().err
    assert stunet("report", "-i", scan, "-l", labels, "-o", tmp_path / "report.txt") == 2
    assert not list(tmp_path.glob("report.*"))
