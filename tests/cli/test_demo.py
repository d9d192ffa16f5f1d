import json

import numpy as np
import pytest
from PIL import Image

from stunet.cli.demo import SCANS, Demo, reference_file, scan_file, scan_name
from stunet.cli.main import parse
from stunet.errors import UserError
from stunet.imaging.affine import orientation
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.weights.model import load_model


@pytest.fixture(scope="module")
def bundled_model():
    try:
        return load_model("hippocampus")
    except UserError as error:
        pytest.skip(f"the bundled model is absent: {error}")


@pytest.mark.parametrize("name", SCANS)
def test_bundled_scans_are_small_and_consistent(name):
    scan, reference = read_volume(scan_file(name)), read_labels(reference_file(name))
    assert scan_file(name).stat().st_size < 100_000
    assert scan.shape == reference.shape
    np.testing.assert_array_equal(scan.affine, reference.affine)
    assert orientation(scan.affine) == "RAS"
    assert set(np.unique(reference.array)) == {0, 1, 2}
    assert name.removeprefix("hippocampus_") in (scan_file(name).parent / "README.md").read_text()


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_demo_writes_labels_report_and_picture(number, bundled_model, tmp_path, capsys):
    folder = tmp_path / "new" / "demo"
    assert Demo(output=folder, scan=str(number)).run() == 0
    assert sorted(path.name for path in folder.iterdir()) == ["labels.nii.gz", "preview.png", "report.json"]
    report = json.loads((folder / "report.json").read_text())
    labels, reference = read_labels(folder / "labels.nii.gz"), read_labels(reference_file(SCANS[number - 1]))
    np.testing.assert_array_equal(labels.affine, reference.affine)
    for label, name in ((1, "Anterior"), (2, "Posterior")):
        predicted, truth = labels.array == label, reference.array == label
        dsc = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
        assert report["dsc"][name] == pytest.approx(dsc)
        assert report["volumes_mm3"][name] == pytest.approx(predicted.sum())
        assert dsc > 0.5
    assert np.asarray(Image.open(folder / "preview.png")).std() > 20
    printed = capsys.readouterr()
    assert f"{report['dsc']['Anterior']:.4f}" in printed.out
    for advice in ("preview.png", "hippocampus", "stunet weights get base", "-m base"):
        assert advice in printed.err


def test_the_demo_as_json(bundled_model, tmp_path, capsys):
    assert Demo(output=tmp_path, json=True).run() == 0
    printed = capsys.readouterr().out
    assert json.loads(printed) == json.loads((tmp_path / "report.json").read_text())


def test_options():
    assert scan_name("1") == scan_name("hippocampus_289") == "hippocampus_289"
    with pytest.raises(UserError, match="no scan '4'"):
        scan_name("4")
    command = parse(["demo", "-o", "here", "--scan", "2", "--json"])
    assert command.output.name == "here" and command.scan == "2" and command.json


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written to"):
        Demo(output=tmp_path / "file" / "demo").run()
