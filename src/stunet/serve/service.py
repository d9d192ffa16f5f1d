"""The server without its web part: folders, tables, processes, and removal of old files."""

import logging
import shutil
import time
from functools import cached_property
from pathlib import Path
from threading import Event, Thread

import anyio

from stunet.errors import UserError
from stunet.files import made_folder, require_writable
from stunet.serve.answers import ModelAnswer
from stunet.serve.child import Child, ChildEndedError, InternalError
from stunet.serve.database import Database
from stunet.serve.job import NO_MEMORY_TO_START, JobOrder, prepare_process
from stunet.serve.job_table import Job, JobTable
from stunet.serve.offered_models import describe_models, name_of
from stunet.serve.people import People
from stunet.serve.refusal import RefusedError
from stunet.serve.runner import Runner
from stunet.serve.saved_result import ResultPlace
from stunet.serve.scan_table import ScanTable
from stunet.serve.settings import ServerSettings
from stunet.serve.uploads import Gate

logger = logging.getLogger(__name__)

SWEEP_SECONDS = 60.0
"""How often old files are looked for."""

SLOW_REQUESTS = 16
"""Requests that may wait for the helper at once, so that short requests need not wait behind them."""


class Service:
    """What the routes call.

    Args:
        settings: of the server.

    Raises:
        UserError: the folder for its data cannot be used.
    """

    def __init__(self, settings: ServerSettings):
        self.settings = settings
        require_writable(settings.data)
        made_folder(settings.data).chmod(0o700)
        self._scan_folder = made_folder(settings.data / "scans")
        self._job_folder = made_folder(settings.data / "jobs")
        self._database = Database(settings.data / "server.sqlite")
        self.scans, self.jobs = ScanTable(self._database), JobTable(self._database)
        self.people = People(settings.tokens, self._database)
        self.helper, self._worker = Child("stunet-helper"), Child("stunet-worker")
        self.runner = Runner(self.jobs, self._worker, self._order)
        self.gate = Gate(settings.limits.uploads)
        self.slow_work = anyio.CapacityLimiter(SLOW_REQUESTS)
        self.device: str | None = None
        self._closing = Event()

    def start(self) -> None:
        """Put jobs of an earlier server back into the queue, and begin."""
        self.jobs.requeue(self.settings.limits.attempts)
        self._remove_unknown()
        Thread(target=self._sweep, name="stunet-sweeper", daemon=True).start()
        Thread(target=self._warm_up, name="stunet-warm-up", daemon=True).start()

    def close(self) -> None:
        """End the processes. Jobs in the database are run after the next start."""
        self._closing.set()
        self.runner.close()
        self.helper.end()

    @property
    def is_ready(self) -> bool:
        """Whether jobs are run."""
        return self.device is not None and not self.is_closing

    @property
    def is_closing(self) -> bool:
        """Whether the server is about to end."""
        return self._closing.is_set()

    @cached_property
    def models(self) -> list[ModelAnswer]:
        """The models that users may name. The first call takes a few seconds."""
        described: list[ModelAnswer] = self.helper.call(describe_models, self.settings.models)
        return described

    def scan_folder(self, scan: str) -> Path:
        """Folder for the files of an upload."""
        return self._scan_folder / scan

    def job_folder(self, job: str) -> Path:
        """Folder for the results of a job."""
        return self._job_folder / job

    def place_of(self, job: Job) -> ResultPlace:
        """Folders of a finished job."""
        return ResultPlace(self.job_folder(job.id), self._path_of_scan(job), job.request.series)

    def remove_scan(self, scan: str) -> None:
        """Forget a scan and its files."""
        self.scans.remove(scan)
        shutil.rmtree(self.scan_folder(scan), ignore_errors=True)

    def remove_job(self, job: str) -> None:
        """Forget a job and its results. If it waits or runs, it is cancelled."""
        self.runner.cancel(job)
        self.jobs.remove(job)
        shutil.rmtree(self.job_folder(job), ignore_errors=True)

    def _path_of_scan(self, job: Job) -> Path:
        try:
            return self.scans.get(job.request.scan, job.owner).path
        except RefusedError:
            return self.scan_folder(job.request.scan)  # it was deleted; reading it says so

    def _order(self, job: Job) -> JobOrder:
        source = next((one for one in self.settings.models if name_of(one) == job.request.model), job.request.model)
        return JobOrder(
            scan=self._path_of_scan(job),
            series=job.request.series,
            model=source,
            classes=job.request.classes,
            mirror=job.request.mirror,
            device=self.settings.device,
            backend=self.settings.backend,
            precision=self.settings.precision,
            output=self.job_folder(job.id),
        )

    def _warm_up(self) -> None:
        """Load the libraries before the first user waits for them, then start the queue."""
        try:
            self.device = self._worker.call(prepare_process, self.settings.device)
            self.runner.start()
            _ = self.models
        except UserError as error:
            logger.error("%s", error)
        except ChildEndedError:
            if not self.is_closing:
                logger.error("%s", NO_MEMORY_TO_START)
        except InternalError:
            logger.error("The process that runs networks could not start; the lines above say where it failed.")

    def _sweep(self) -> None:
        while not self._closing.is_set():
            self.erase_old()
            self._closing.wait(SWEEP_SECONDS)

    def erase_old(self) -> None:
        """Erase jobs and scans that were kept long enough."""
        moment = time.time() - 3600 * self.settings.limits.kept_hours
        for job in self.jobs.older_than(moment):
            self.remove_job(job)
        for scan in self.scans.older_than(moment):
            self.remove_scan(scan)
        self.people.forget_old_sessions()

    def _remove_unknown(self) -> None:
        """Remove files that the database does not know: of uploads and jobs that a killed server left."""
        known = {*self.scans.ids(), *self.jobs.ids()}
        for folder in (*self._scan_folder.iterdir(), *self._job_folder.iterdir()):
            if folder.name not in known:
                shutil.rmtree(folder, ignore_errors=True)
