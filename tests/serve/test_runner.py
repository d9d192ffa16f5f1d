"""The queue goes on, whatever happens to a job."""

from pathlib import Path

import pytest

from stunet.serve import runner as runner_module
from stunet.serve.child import Child
from stunet.serve.database import Database
from stunet.serve.job import JobOrder
from stunet.serve.job_table import JobRequest, JobTable, Progress
from stunet.serve.runner import INTERNAL, MEMORY, Runner
from tests.serve.conftest import wait_until
from tests.serve.pretended import pretend_to_run


class Forgetful(JobTable):
    """Cannot write down the progress of one job."""

    def note(self, job: str, now: Progress) -> None:
        if job == "unwritten":
            raise OverflowError("D" + "oe")
        super().note(job, now)


@pytest.fixture
def queue(tmp_path, monkeypatch):
    monkeypatch.setattr(runner_module, "run_job", pretend_to_run)
    jobs, worker = Forgetful(Database(tmp_path / "a.sqlite")), Child("test")

    def order(job):
        return JobOrder(Path(), None, job.request.model, (), False, "cpu", "auto", "auto", tmp_path / "jobs" / job.id)

    runner = Runner(jobs, worker, order)
    yield jobs, runner
    runner.close()


def test_each_end_of_a_job(queue, tmp_path, caplog):
    jobs, runner = queue
    for name in ("crash", "bad", "fault", "unwritten", "good"):
        jobs.add(name, "anna", JobRequest("scan", None, name))
    assert [jobs.ahead(name) for name in ("crash", "bad", "good")] == [0, 1, 4]
    runner.start()
    wait_until(lambda: jobs.get("good", "anna").is_over, seconds=240)
    found = {name: jobs.get(name, "anna") for name in ("crash", "bad", "fault", "unwritten", "good")}
    assert [found[name].state for name in found] == ["failed", "failed", "failed", "failed", "done"]
    sentences = [found[name].error for name in found]
    assert sentences == [MEMORY, "a sentence", INTERNAL, INTERNAL, None]
    assert found["good"].warnings == ("a warning",) and found["good"].progress.progress == 1
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == ["good"]
    assert "OverflowError" in caplog.text and "Doe" not in caplog.text


def test_closing_leaves_jobs_for_the_next_start(queue):
    jobs, runner = queue
    jobs.add("a", "anna", JobRequest("scan", None, "good"))
    runner.close()
    assert jobs.get("a", "anna").state == "queued"
