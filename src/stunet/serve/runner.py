"""Runs jobs in the worker's process, one after the other, and ends cancelled jobs."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from threading import Event, Lock, Thread, Timer

from stunet.errors import Stopped, UserError
from stunet.serve.child import Child, ChildEndedError, InternalError, places_of
from stunet.serve.job import JobOrder, JobResult, run_job
from stunet.serve.job_table import Job, JobTable, Progress

logger = logging.getLogger(__name__)

GRACE_SECONDS = 5.0
"""A cancelled job has this time to end by itself. Then its process is ended."""

IDLE_SECONDS = 1.0
"""Interval between looks at the queue if no new job is announced."""

MEMORY = "The job was ended, most likely because the scan needs more memory than the server has."
INTERNAL = "The server met an internal error. Its log says where."


class Runner:
    """A thread that takes jobs from the queue.

    Args:
        jobs: the queue.
        worker: runs networks.
        order: gives what the worker needs to know about a job.
    """

    def __init__(self, jobs: JobTable, worker: Child, order: Callable[[Job], JobOrder]):
        self._jobs, self._worker, self._order = jobs, worker, order
        self._came, self._closing = Event(), Event()
        self._lock = Lock()
        self._current: str | None = None
        self._thread = Thread(target=self._loop, name="stunet-runner", daemon=True)

    def start(self) -> None:
        """Begin with the queue."""
        self._thread.start()

    def wake(self) -> None:
        """Announce a new job."""
        self._came.set()

    def cancel(self, job: str) -> bool:
        """Cancel a job that waits or runs. Returns whether it did."""
        was_open = self._jobs.cancel(job)
        if self._current == job:
            self._worker.stop()
            timer = Timer(GRACE_SECONDS, self._end_if_still_running, [job])
            timer.daemon = True
            timer.start()
        return was_open

    def close(self) -> None:
        """End now. A running job is run again after the next start."""
        self._closing.set()
        self._came.set()
        self._worker.end()
        while self._thread.is_alive():
            self._worker.end()
            self._thread.join(IDLE_SECONDS)

    def _end_if_still_running(self, job: str) -> None:
        with self._lock:
            if self._current == job:
                self._worker.end()

    def _loop(self) -> None:
        """Run jobs until the server closes, also after errors of a job or of the database."""
        while not self._closing.is_set():
            self._came.clear()
            try:
                if not self._run_next():
                    self._came.wait(IDLE_SECONDS)
            except Exception as error:
                logger.error("The queue met %s:\n%s", type(error).__name__, places_of(error))
                self._closing.wait(IDLE_SECONDS)

    def _run_next(self) -> bool:
        """Run the first job of the queue. Returns whether there was one."""
        job = self._jobs.begin_next()
        if job is None:
            return False
        with self._lock:
            self._current = job.id
        try:
            self._run(job)
        except Exception:
            self._jobs.fail(job.id, INTERNAL)
            raise
        finally:
            with self._lock:
                self._current = None
        return True

    def _run(self, job: Job) -> None:
        order = self._order(job)
        try:
            result: JobResult = self._worker.follow(run_job, order, on_told=lambda now: self._note(job.id, now))
        except Stopped:
            pass
        except UserError as error:
            self._jobs.fail(job.id, str(error))
        except ChildEndedError:
            self._after_end(job.id)
        except InternalError:
            self._jobs.fail(job.id, INTERNAL)
        else:
            self._jobs.finish(job.id, result.warnings)
        finally:
            if not self._closing.is_set():
                self._tidy(job, order.output)

    def _note(self, job: str, now: Progress) -> None:
        self._jobs.note(job, now)
        if not self._jobs.is_running(job):
            self._worker.stop()

    def _after_end(self, job: str) -> None:
        """Handle the end of the worker's process: the server closes, the job was cancelled, or memory ran out."""
        if not self._closing.is_set():
            self._jobs.fail(job, MEMORY)

    def _tidy(self, job: Job, output: Path) -> None:
        """Remove the files of a job that is not done or was deleted meanwhile."""
        for partial in output.parent.glob(f".{output.name}.*.partial"):
            shutil.rmtree(partial, ignore_errors=True)
        if not self._jobs.is_done(job.id):
            shutil.rmtree(output, ignore_errors=True)
