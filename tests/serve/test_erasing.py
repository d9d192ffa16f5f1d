"""What is kept long enough is erased, and what nobody knows of."""

import time

import pytest

from stunet.serve.answers import ScanAnswer
from stunet.serve.job_table import JobRequest
from stunet.serve.refusal import RefusedError
from stunet.serve.service import Service
from stunet.serve.settings import Limits, ServerSettings


@pytest.fixture
def service(tmp_path):
    return Service(ServerSettings(tmp_path, limits=Limits(kept_hours=1)))


def put(service, name):
    service.scan_folder(name).mkdir()
    service.job_folder(name).mkdir()
    service.scans.add(name, "anna", service.scan_folder(name), ScanAnswer(name, "image", [1, 1, 1], [1, 1, 1], 1))
    service.jobs.add(name, "anna", JobRequest(name, None, "m"))


def test_old_jobs_and_scans_go(service, monkeypatch):
    put(service, "old")
    service.jobs.begin_next()
    service.jobs.finish("old", [])
    put(service, "waiting")
    now = time.time()
    service.erase_old()
    assert service.job_folder("old").exists()
    monkeypatch.setattr(time, "time", lambda: now + 3601)
    put(service, "new")
    service.erase_old()
    assert service.jobs.ids() == {"waiting", "new"} == service.scans.ids()
    assert not service.job_folder("old").exists() and not service.scan_folder("old").exists()
    assert service.scan_folder("waiting").exists()
    with pytest.raises(RefusedError, match="no such job"):
        service.jobs.get("old", "anna")


def test_files_that_a_killed_server_left_go(service):
    put(service, "known")
    (service.scan_folder("half")).mkdir()
    (service.job_folder(".known.123.partial")).mkdir()
    service._remove_unknown()
    assert service.scan_folder("known").exists() and service.job_folder("known").exists()
    assert not service.scan_folder("half").exists() and not service.job_folder(".known.123.partial").exists()


def test_the_folder_is_for_its_owner_alone(service, tmp_path):
    assert tmp_path.stat().st_mode & 0o077 == 0
    assert (tmp_path / "server.sqlite").stat().st_mode & 0o077 == 0
