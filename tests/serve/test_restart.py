"""A server that is killed, in each state that a job can have, and started again on the same folder."""

import socket
from urllib.parse import urlsplit

import pytest

from stunet.serve.connection import ServerError
from tests.serve.conftest import HaltingServer, RunningServer, wait_until
from tests.serve.halting import IN_PLACE, WRITTEN


def test_jobs_outlive_a_killed_server(tmp_path, hippocampus, large_scan):
    server = RunningServer(tmp_path)
    with server.client() as client:
        scan, large = client.upload(hippocampus), client.upload(large_scan)
        done = client.wait(client.submit(scan, "hippocampus"))
        volumes = [one.volume_mm3 for one in client.statistics(done)]
        running = client.submit(large, "hippocampus")
        queued = client.submit(scan, "hippocampus")
        cancelled = client.cancel(client.submit(scan, "hippocampus"))
        wait_until(lambda: client.job(running).window > 0)
        before = client.job(running).progress
        assert client.job(queued).ahead == 1
        server.kill()
        with pytest.raises(ServerError, match="cannot be reached"):
            client.jobs()

    server = RunningServer(tmp_path)
    try:
        with server.client() as client:
            assert client.job(done).state == "done"
            assert [one.volume_mm3 for one in client.statistics(done)] == volumes
            assert client.job(cancelled).state == "cancelled"
            assert client.job(running).progress >= before
            assert client.wait(running).state == client.wait(queued).state == "done"
            assert [one.volume_mm3 for one in client.statistics(queued)] == volumes
            assert len(client.jobs()) == 4
        assert not list((tmp_path / "jobs").glob(".*"))
        assert {path.name for path in (tmp_path / "jobs").iterdir()} == {one.job for one in (done, running, queued)}
    finally:
        server.kill()


def begin_upload(server):
    """Send the head and a part of a scan, and no more."""
    address = urlsplit(server.url)
    line = socket.create_connection((address.hostname, address.port))
    head = (
        f"POST /api/v1/scans HTTP/1.1\r\nHost: {address.netloc}\r\nX-Stunet: 1\r\nContent-Length: 100000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
        '--b\r\nContent-Disposition: form-data; name="file"; filename="a.nii.gz"\r\n\r\n'
    )
    line.sendall(head.encode() + bytes(1000))
    wait_until(lambda: any((server.data / "scans").rglob("*.nii.gz")))
    return line


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_a_server_killed_in_each_state(tmp_path, hippocampus):
    """While a scan arrives, is read and segmented, and while results are written and put in their place."""
    server = HaltingServer(tmp_path)
    with server.client(), begin_upload(server):
        assert len(names_in(tmp_path / "scans")) == 1
        server.kill()

    server = HaltingServer(tmp_path)
    with server.client() as client:
        assert not names_in(tmp_path / "scans")
        scan = client.upload(hippocampus)
        done = client.wait(client.submit(scan, "hippocampus"))
        volumes = [one.volume_mm3 for one in client.statistics(done)]
        server.halt_at("reading")
        read = client.submit(scan, "hippocampus")
        server.wait_for_halt()
        server.kill()

    server.halt_at(WRITTEN)
    server = HaltingServer(tmp_path)
    with server.client() as client:
        server.wait_for_halt()
        assert client.job(read).state == "running" and len(names_in(tmp_path / "jobs")) == 2
        server.kill()

    server.halt_at(None)
    server = HaltingServer(tmp_path)
    with server.client() as client:
        assert names_in(tmp_path / "jobs") == {done.job}
        client.wait(read)
        server.halt_at(IN_PLACE)
        placed = client.submit(scan, "hippocampus")
        server.wait_for_halt()
        assert client.job(placed).state == "running"
        assert names_in(tmp_path / "jobs") == {done.job, read.job, placed.job}
        server.kill()

    server.halt_at(None)
    server = HaltingServer(tmp_path)
    try:
        with server.client() as client:
            client.wait(placed)
            for job in (done, read, placed):
                assert client.job(job).state == "done"
                assert [one.volume_mm3 for one in client.statistics(job)] == volumes
            assert names_in(tmp_path / "jobs") == {done.job, read.job, placed.job}
    finally:
        server.kill()


def test_a_job_that_always_ends_the_server_is_given_up(tmp_path):
    from stunet.serve.database import Database
    from stunet.serve.job_table import JobRequest, JobTable

    jobs = JobTable(Database(tmp_path / "a.sqlite"))
    jobs.add("a", "anna", JobRequest("scan", None, "base"))
    for _ in range(3):
        jobs.requeue(most_attempts=3)
        assert jobs.begin_next().id == "a"
    jobs.requeue(most_attempts=3)
    assert jobs.begin_next() is None
    job = jobs.get("a", "anna")
    assert job.state == "failed" and "ended 3 times" in job.error


def test_the_worker_is_gone_with_a_killed_server(tmp_path):
    psutil = pytest.importorskip("psutil")
    server = RunningServer(tmp_path)
    wait_until(lambda: len(psutil.Process(server.process.pid).children()) >= 2)
    children = psutil.Process(server.process.pid).children(recursive=True)
    server.kill()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_a_server_ends_well_when_it_is_interrupted(tmp_path):
    server = RunningServer(tmp_path)
    assert server.end() in (0, 130)
    assert "Traceback" not in server.said
