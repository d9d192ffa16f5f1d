"""`stunet predict --server`: the files that the same command leaves without a server."""

import json
import zipfile

import nibabel
import numpy as np
import pydicom
import pytest

from stunet.cli.main import run
from stunet.imaging.formats.registry import read_labels
from tests.phantoms import write_dicom_series

MODEL = ("-m", "hippocampus")


@pytest.fixture
def here_and_there(server, tmp_path):
    """Run a command on this machine and on the server; two folders."""

    def both(*arguments, name=""):
        folders = []
        for where, options in (("here", ()), ("there", ("--server", server.url))):
            folders.append(tmp_path / where)
            command = ["predict", *map(str, arguments), "-o", str(tmp_path / where / name), *MODEL, *options, "-q"]
            assert run(command) == 0
        return folders

    return both


def equal_labels(here, there):
    return np.array_equal(read_labels(here).array, read_labels(there).array)


def reports(here, there, name):
    return [json.loads((folder / name).read_text()) for folder in (here, there)]


def test_one_scan(here_and_there, hippocampus):
    here, there = here_and_there("-i", hippocampus, "--statistics", "--itksnap", name="labels.nii.gz")
    assert (here / "labels.nii.gz").read_bytes() == (there / "labels.nii.gz").read_bytes()
    assert {path.name for path in here.iterdir()} == {path.name for path in there.iterdir()}
    assert len(set(reports(here, there, "labels.statistics.json")[0])) == 2
    for one, other in zip(*reports(here, there, "labels.statistics.json"), strict=True):
        assert one == other
    local, remote = reports(here, there, "labels.report.json")
    assert set(local) == set(remote)
    for record in (local, remote):
        record["backend"].get("precision_check", {}).pop("seconds", None)
    for field in ("input", "volumes_mm3", "warnings", "versions", "backend"):
        assert local[field] == remote[field], field
    assert local["model"]["card_sha256"] == remote["model"]["card_sha256"]


def test_a_folder_with_a_bad_scan(here_and_there, server, hippocampus, tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.nii.gz").write_bytes(hippocampus.read_bytes())
    (scans / "b.nii.gz").write_bytes(b"no scan")
    out = tmp_path / "out"
    assert run(["predict", "-i", str(scans), "-o", str(out), *MODEL, "--server", server.url, "-q"]) == 2
    report = json.loads((out / "stunet_report.json").read_text())
    assert ["error" in case for case in report["cases"]] == [False, True]
    assert read_labels(out / "a.nii.gz").array.any()


def test_chosen_structures(here_and_there, hippocampus):
    here, there = here_and_there("-i", hippocampus, "--classes", "Posterior", name="labels.nrrd")
    assert equal_labels(here / "labels.nrrd", there / "labels.nrrd")
    assert np.unique(read_labels(there / "labels.nrrd").array).tolist() == [0, 2]


def test_the_second_of_two_series_in_a_zip(here_and_there, hippocampus, tmp_path):
    array = nibabel.load(hippocampus).get_fdata().T.astype(np.int16)
    for number, values in ((1, array), (2, array[:, ::-1])):
        facts = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number, "FrameOfReferenceUID": "1.2.9"}
        write_dicom_series(tmp_path / "study" / str(number), np.ascontiguousarray(values), **facts)
    with zipfile.ZipFile(tmp_path / "study.zip", "w") as archive:
        for path in (tmp_path / "study").rglob("*.dcm"):
            archive.write(path, path.relative_to(tmp_path).as_posix())
    options = ("-i", tmp_path / "study.zip", "--series", "2", "--format", "dicom-seg", "nifti")
    here, there = here_and_there(*options, name="labels.dcm")
    assert equal_labels(here / "labels.nii.gz", there / "labels.nii.gz")
    one, other = (pydicom.dcmread(folder / "labels.dcm") for folder in (here, there))
    assert np.array_equal(one.pixel_array, other.pixel_array)
    assert other.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.2"


def test_nothing_stays_on_the_server(here_and_there, server, hippocampus):
    with server.client() as client:
        before = {job.job for job in client.jobs()}
        here_and_there("-i", hippocampus, name="labels.nii.gz")
        assert {job.job for job in client.jobs()} == before


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--step", "0.7"), "--step: not possible with --server"),
        (("--device", "cpu", "--probabilities"), "--probabilities, --device: not possible with --server"),
    ],
)
def test_options_for_this_machine(server, hippocampus, tmp_path, capsys, options, sentence):
    command = ["predict", "-i", str(hippocampus), "-o", str(tmp_path / "a.nii.gz"), *MODEL, "--server", server.url]
    assert run([*command, *options]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "127.0.0.1:8000", "http://", "nonsense"])
def test_no_server(hippocampus, tmp_path, capsys, url):
    command = ["predict", "-i", str(hippocampus), "-o", str(tmp_path / "a.nii.gz"), *MODEL, "--server", url]
    assert run(command) == 2
    said = capsys.readouterr().err
    assert "cannot be reached" in said and "Traceback" not in said


def test_a_model_that_the_server_lacks(server, hippocampus, tmp_path, capsys):
    command = ["predict", "-i", str(hippocampus), "-o", str(tmp_path / "a.nii.gz"), "--server", server.url]
    assert run([*command, "-m", "base"]) == 2
    assert "is not on the server" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_client_needs_neither_torch_nor_the_web_framework():
    import subprocess
    import sys

    program = (
        "import sys; from stunet import Client; import stunet.serve.connection, httpx; "
        "print([name for name in ('torch', 'fastapi', 'starlette', 'uvicorn', 'pydantic') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
