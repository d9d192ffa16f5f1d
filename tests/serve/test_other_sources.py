"""Scans of the server's own folders, and of a DICOMweb server that the test plays."""

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.imaging.formats.registry import read_volume
from stunet.serve.connection import ServerError
from stunet.serve.other_sources import allowed_path, fetch_series
from stunet.serve.refusal import RefusedError
from stunet.serve.settings import Limits
from tests.imaging.dicomweb.fake_server import PATH, FakeServer, files_of_a_series, serving
from tests.serve.conftest import RunningServer


@pytest.fixture
def pacs(tmp_path):
    """The URL of a DICOMweb server with one series."""
    with serving(FakeServer(files_of_a_series(tmp_path / "pacs"))) as server:
        yield f"http://127.0.0.1:{server.port}"


def series_of(pacs):
    return pacs + PATH


def test_a_series_is_fetched_as_it_is(pacs, tmp_path):
    size = fetch_series(series_of(pacs), [f"{pacs}/"], tmp_path / "scan", Limits())
    assert size == sum(path.stat().st_size for path in (tmp_path / "scan").iterdir())
    fetched, stored = read_volume(tmp_path / "scan"), read_volume(tmp_path / "pacs")
    assert np.array_equal(fetched.array, stored.array) and np.array_equal(fetched.affine, stored.affine)


@pytest.mark.parametrize(
    "url",
    [
        "http://evil.example/studies/1/series/2",
        "{pacs}/studies/1/series/2/../../../../admin",
        "{pacs}/studies/1/series/2?x=1",
        "{pacs}.evil.example/studies/1/series/2",
        "{pacs}/studies/1/series/a",
        "file:///etc/studies/1/series/2",
        "http://user@127.0.0.1/studies/1/series/2",
    ],
)
def test_no_other_address(pacs, tmp_path, url):
    with pytest.raises(RefusedError, match="does not allow") as refused:
        fetch_series(url.format(pacs=pacs), [pacs], tmp_path / "scan", Limits())
    assert refused.value.status == 403


def test_limits_hold(pacs, tmp_path):
    with pytest.raises(RefusedError, match="larger than this server takes"):
        fetch_series(series_of(pacs), [pacs], tmp_path / "a", Limits(upload_bytes=3000))
    with pytest.raises(RefusedError, match="at most 2 files"):
        fetch_series(series_of(pacs), [pacs], tmp_path / "b", Limits(upload_files=2))
    with pytest.raises(UserError, match="no such series"):
        fetch_series(f"{pacs}/studies/1/series/9", [pacs], tmp_path / "c", Limits())


def test_paths_below_a_folder(tmp_path):
    inside = tmp_path / "scans" / "a.nii"
    inside.parent.mkdir()
    inside.touch()
    (tmp_path / "secret.nii").touch()
    (tmp_path / "scans" / "link.nii").symlink_to(tmp_path / "secret.nii")
    folders = [(tmp_path / "scans").resolve()]
    assert allowed_path(str(inside), folders) == inside.resolve()
    sentences = set()
    for path in ("secret.nii", "scans/../secret.nii", "scans/link.nii", "missing.nii", "scans/missing.nii", "a\0"):
        with pytest.raises(RefusedError) as refused:
            allowed_path(f"{tmp_path}/{path}", folders)
        sentences.add(str(refused.value))
    assert len(sentences) == 1
    with pytest.raises(RefusedError):
        allowed_path(str(inside), [])


def test_jobs_with_them(pacs, tmp_path, hippocampus):
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "a.nii.gz").write_bytes(hippocampus.read_bytes())
    running = RunningServer(tmp_path / "data", "--allow-folder", str(scans), "--allow-dicomweb", pacs)
    try:
        with running.client() as client:
            job = client.submit(None, "hippocampus", path=str(scans / "a.nii.gz"))
            assert client.wait(job).state == "done" and client.statistics(job)
            client.save(job, tmp_path / "labels.nrrd")
            client.delete(job)
            client.delete_scan(job.scan)
            assert (scans / "a.nii.gz").exists()
            fetched = client.submit(None, "hippocampus", dicomweb=series_of(pacs))
            assert client.wait(fetched).state == "done"
            with pytest.raises(ServerError, match="Name one of scan, path and dicomweb"):
                client.submit(None, "hippocampus")
    finally:
        running.kill()


def test_neither_is_allowed_by_default(client, hippocampus, pacs):
    for given in ({"path": str(hippocampus)}, {"dicomweb": series_of(pacs)}):
        with pytest.raises(ServerError, match="does not allow") as refused:
            client.submit(None, "hippocampus", **given)
        assert refused.value.status == 403
