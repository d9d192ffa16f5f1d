"""From an upload to what users take away, against `Predictor` on the same scan."""

import csv
import json
import re
import struct
import zipfile
from datetime import datetime, timedelta

import nibabel
import numpy as np
import pydicom
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.registry import read_labels
from stunet.inference.predictor import Predictor
from stunet.serve.connection import ServerError
from tests.phantoms import write_dicom_series

STAGES = ["queued", "reading", "loading model", "preprocessing", "windows", "labelling", "writing", "done"]


@pytest.fixture(scope="module")
def segmentation(hippocampus):
    return Predictor("hippocampus").predict(hippocampus)


@pytest.fixture(scope="module")
def done(server, hippocampus):
    with server.client() as client:
        job = client.submit(client.upload(hippocampus), "hippocampus")
        return client.wait(job)


def test_a_server_says_what_it_is_and_what_it_has(client):
    assert client.health().status == "ok"
    models = {model.name: model for model in client.models()}
    assert [one.name for one in models["hippocampus"].classes] == ["Anterior", "Posterior"]
    assert models["hippocampus"].channels and not models["huge"].available


def test_an_upload_is_looked_into(client, hippocampus):
    scan = client.upload(hippocampus)
    assert scan.kind == "image" and scan.series == [] and scan.bytes == hippocampus.stat().st_size
    assert tuple(scan.shape) == nibabel.load(hippocampus).shape[::-1]
    client.delete_scan(scan)
    with pytest.raises(ServerError, match="no such scan"):
        client.delete_scan(scan)


def test_progress_never_falls_and_stages_are_in_order(client, large_scan):
    job = client.submit(client.upload(large_scan), "hippocampus")
    seen = list(client.follow(job))
    assert [one.progress for one in seen] == sorted(one.progress for one in seen)
    stages = [STAGES.index(one.stage) for one in seen]
    assert stages == sorted(stages) and seen[-1].state == "done"
    windows = [one.window for one in seen if one.stage == "windows"]
    assert windows == sorted(windows) and len(set(windows)) > 2
    assert any(one.seconds_left for one in seen if one.stage == "windows")
    assert seen[-1].window == seen[-1].windows > 0


def test_a_job_says_when_it_is_erased(done):
    created, erased = (datetime.fromisoformat(text) for text in (done.created, done.erased_at))
    assert erased - created == timedelta(hours=24)


def test_labels_are_those_of_a_predictor_here(client, done, segmentation, tmp_path):
    for name in ("labels.nii.gz", "labels.nrrd", "labels.seg.nrrd"):
        labels = read_labels(client.save(done, tmp_path / name)).array[0]
        assert np.array_equal(labels, segmentation.labels)
    (only,) = np.unique(read_labels(client.save(done, tmp_path / "a.nii.gz", classes=["Posterior"])).array).nonzero()
    assert np.array_equal(only, [1])


def test_statistics_are_those_of_a_predictor_here(client, done, segmentation, tmp_path):
    here, there = segmentation.statistics(), {one.name: one for one in client.statistics(done)}
    assert list(there) == list(here)
    for name, one in there.items():
        assert (one.voxels, one.volume_mm3) == (here[name].voxels, here[name].volume_mm3)
        assert one.mean == pytest.approx(here[name].mean)
        assert one.centroid == pytest.approx(here[name].centroid_mm, abs=1e-3)
        assert re.fullmatch("#[0-9a-f]{6}", one.color)
    rows = list(csv.DictReader(client.save(done, tmp_path / "a.csv").read_text().splitlines()))
    assert [float(row["volume_mm3"]) for row in rows] == [one.volume_mm3 for one in there.values()]


def test_the_viewer_gets_scan_and_labels_on_one_grid(client, done, hippocampus, tmp_path):
    for name in ("scan", "labels"):
        with client._line.stream(f"/jobs/{done.job}/{name}") as response:
            (tmp_path / f"{name}.nii.gz").write_bytes(response.read())
    scan, labels = (nibabel.load(tmp_path / f"{name}.nii.gz") for name in ("scan", "labels"))
    assert np.array_equal(scan.get_fdata(), nibabel.load(hippocampus).get_fdata())
    assert np.array_equal(scan.affine, labels.affine) and scan.shape == labels.shape


def test_surfaces_have_the_volume_of_their_structure(client, done, segmentation, tmp_path):
    content = client.save(done, tmp_path / "a.stl", classes=["Anterior"]).read_bytes()
    (count,) = struct.unpack_from("<I", content, 80)
    faces = np.frombuffer(content, np.dtype([("n", "<3f4"), ("c", "<9f4"), ("a", "<u2")]), count, 84)["c"]
    a, b, c = faces.reshape(-1, 3, 3).astype(float).transpose(1, 0, 2)
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)).sum() / 6
    assert volume == pytest.approx(segmentation.volumes_mm3()["Anterior"], rel=0.1)
    glb = client.save(done, tmp_path / "a.glb").read_bytes()
    assert glb[:4] == b"glTF"
    length, _ = struct.unpack_from("<II", glb, 12)
    assert [node["name"] for node in json.loads(glb[20 : 20 + length])["nodes"]] == ["Anterior", "Posterior"]


def test_a_report_says_what_was_found_and_nothing_of_the_scans_name(client, done, segmentation, hippocampus, tmp_path):
    page = client.save(done, tmp_path / "a.html").read_text(encoding="utf-8")
    volumes = segmentation.volumes_mm3()
    assert all(name in page and f"{mm3 / 1000:,.1f} ml" in page for name, mm3 in volumes.items())
    assert "<h1>Segmentation</h1>" in page and hippocampus.name.split(".")[0] not in page
    assert client.save(done, tmp_path / "a.pdf").read_bytes().startswith(b"%PDF-")


def test_a_reference_is_compared_and_kept(client, done, hippocampus, tmp_path):
    labels = client.save(done, tmp_path / "labels.nii.gz")
    assert [(one.dsc, one.hd95_mm) for one in client.compare(done, labels)] == [(1.0, 0.0), (1.0, 0.0)]
    reference = hippocampus.with_name(hippocampus.name.replace(".nii.gz", "_reference.nii.gz"))
    assert all(0.7 < one.dsc < 1 and one.hd95_mm > 0 for one in client.compare(done, reference))
    nibabel.save(nibabel.Nifti1Image(np.ones((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    with pytest.raises(ServerError, match="The reference: has 3x4x5 voxels"):
        client.compare(done, tmp_path / "other.nii.gz")


def test_dicom_results_need_dicom(client, done, tmp_path):
    with pytest.raises(ServerError, match="is not DICOM") as refused:
        client.save(done, tmp_path / "a.dcm")
    assert refused.value.status == 409 and not (tmp_path / "a.dcm").exists()


def test_two_series_in_a_zip(client, tmp_path, hippocampus):
    array = nibabel.load(hippocampus).get_fdata().T.astype(np.int16)
    for number in (1, 2):
        facts = {"SeriesInstanceUID": f"1.2.{number}", "SeriesNumber": number, "PatientName": "Doe^Jane"}
        write_dicom_series(tmp_path / "study" / str(number), array, **facts, FrameOfReferenceUID="1.2.9")
    scan = client.upload(tmp_path / "study")
    assert scan.kind == "dicom" and [one.number for one in scan.series] == [1, 2] and scan.chosen is None
    with pytest.raises(ServerError, match="no DICOM series 3"):
        client.submit(scan, "hippocampus", series=3)
    failed = client.submit(scan, "hippocampus")
    with pytest.raises(ServerError, match="several series, and none is clearly the best"):
        client.wait(failed)
    job = client.wait(client.submit(scan, "hippocampus", series=2))
    written = pydicom.dcmread(client.save(job, tmp_path / "a.dcm"))
    assert written.Modality == "SEG"
    assert written.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.2"


def test_a_bad_file_gives_a_sentence_without_a_path(client, tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(b"no scan")
    with pytest.raises(ServerError) as refused:
        client.upload(tmp_path / "scan.nii.gz")
    assert refused.value.status == 422 and "The scan" in str(refused.value)
    assert "/" not in str(refused.value).replace("and/or", "")


def test_unknown_models_and_structures_are_named(client, hippocampus):
    scan = client.upload(hippocampus)
    with pytest.raises(ServerError, match="Did you mean 'hippocampus'"):
        client.submit(scan, "hippocampos")
    with pytest.raises(ServerError, match="Did you mean 'Anterior'"):
        client.submit(scan, "hippocampus", classes=["anterior"])
    with pytest.raises(ServerError, match="stunet weights get base") as refused:
        client.submit(scan, "base")
    assert refused.value.status == 409


def test_a_deleted_job_is_gone(client, hippocampus):
    job = client.wait(client.submit(client.upload(hippocampus), "hippocampus"))
    client.delete(job)
    with pytest.raises(ServerError, match="no such job"):
        client.job(job)


def test_a_zip_without_dicom_is_refused(client, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    with pytest.raises(UserError, match="holds no DICOM slices"):
        client.upload(tmp_path / "a.zip")
