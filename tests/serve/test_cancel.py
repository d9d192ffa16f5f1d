"""Cancelling a job in each state, and deleting one that runs."""

import psutil
import pytest

from stunet.serve.connection import ServerError
from tests.serve.conftest import HaltingServer, wait_until
from tests.serve.halting import WRITTEN


def test_cancel_in_each_state(client, hippocampus, large_scan):
    scan, large = client.upload(hippocampus), client.upload(large_scan)
    running, queued = client.submit(large, "hippocampus"), client.submit(scan, "hippocampus")
    last = client.submit(scan, "hippocampus")
    assert client.cancel(queued).state == "cancelled"
    wait_until(lambda: client.job(running).window > 0)
    assert client.cancel(running).state == "cancelled"
    with pytest.raises(ServerError, match="cancelled"):
        client.wait(running)
    assert client.wait(last).state == "done"
    assert client.cancel(last).state == "done"
    assert [client.job(job).state for job in (running, queued)] == ["cancelled", "cancelled"]
    with pytest.raises(ServerError, match="The job is cancelled, so there is no result"):
        client.statistics(running)


@pytest.fixture(scope="module")
def halting(tmp_path_factory):
    server = HaltingServer(tmp_path_factory.mktemp("halting"))
    yield server
    server.kill()


STAGES = ("reading", "loading model", "preprocessing", "windows", "labelling", "writing", WRITTEN)


@pytest.mark.parametrize("stage", STAGES)
def test_cancel_in_each_stage_of_a_running_job(halting, hippocampus, large_scan, stage):
    with halting.client() as client:
        scan = client.upload(hippocampus)  # of a single window
        halting.halt_at(stage)
        job = client.submit(client.upload(large_scan) if stage == "windows" else scan, "hippocampus")
        halting.wait_for_halt()
        assert client.job(job).stage == ("writing" if stage == WRITTEN else stage)
        assert client.cancel(job).state == "cancelled"
        halting.halt_at(None)
        following = client.wait(client.submit(scan, "hippocampus"))
        assert client.job(job).state == "cancelled"
        assert [path.name for path in (halting.data / "jobs").iterdir()] == [following.job]
        client.delete(following)


def test_cancel_before_the_first_window(client, hippocampus, large_scan):
    large = client.upload(large_scan)
    job = client.submit(large, "hippocampus", classes=["Anterior"])  # another head, so the model is prepared again
    wait_until(lambda: client.job(job).state == "running")
    assert client.cancel(job).state == "cancelled"
    following = client.submit(client.upload(hippocampus), "hippocampus")
    assert client.wait(following).state == "done"
    assert client.job(job).state == "cancelled"


def test_delete_a_job_that_runs(client, server, large_scan):
    job = client.submit(client.upload(large_scan), "hippocampus")
    wait_until(lambda: client.job(job).state == "running")
    client.delete(job)
    with pytest.raises(ServerError, match="no such job"):
        client.job(job)


def test_a_job_that_ends_its_process_ends_nothing_else(client, server, hippocampus, large_scan):
    """As Linux does where memory runs out."""
    job = client.submit(client.upload(large_scan), "hippocampus")
    following = client.submit(client.upload(hippocampus), "hippocampus")
    wait_until(lambda: client.job(job).window > 0)
    children = psutil.Process(server.process.pid).children()
    worker = max(children, key=lambda child: child.cpu_times().user)
    worker.kill()
    with pytest.raises(ServerError, match="needs more memory than the server has"):
        client.wait(job)
    assert client.wait(following).state == "done"
    assert client.health().status == "ok"
