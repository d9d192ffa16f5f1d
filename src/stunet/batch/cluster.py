"""The workers of a batch on a Ray cluster: each is a task of Ray, and the ledger decides who has which scan.

A task starts one worker process as `stunet batch work` does, and stays until every scan is finished. Ray places tasks
where processors and GPUs are free. A task whose machine is lost is started again elsewhere, and what it had is taken by
others once its lease is over. Nothing about a scan passes through Ray.
"""

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stunet.batch.crew import Crew
from stunet.batch.member import WorkerOptions
from stunet.batch.place import place
from stunet.batch.settings import BatchFolder
from stunet.batch.signals import Noted, noting_signals
from stunet.batch.status import BatchReader, BatchStatus
from stunet.errors import Stopped, UserError
from stunet.extras import from_extra

LOOK_SECONDS = 2.0
"""Between two looks at tasks and ledger."""

MOST_LOST = 3
"""So many tasks may be lost in a row while no scan is finished."""

ANSWER_SECONDS = 20.0
"""For a cluster to answer."""

GRACE_SECONDS = 60.0
"""For workers to give back their scans, when the batch is stopped."""


@dataclass(frozen=True)
class ClusterWorkers:
    """Workers on a cluster.

    Attributes:
        address: of the cluster: "auto" for the one that this machine belongs to, or `ray://HOST:10001`.
        count: how many workers.
        options: of each worker; it has `threads` processors, one if None.
        with_gpu: whether each has a GPU.
    """

    address: str
    count: int
    options: WorkerOptions
    with_gpu: bool = False


def work_on_cluster(
    folder: BatchFolder,
    workers: ClusterWorkers,
    on_status: Callable[[BatchStatus], None] = lambda status: None,
    say: Callable[[str], None] = lambda sentence: None,
) -> None:
    """Work until every scan of the batch is done, failed or set aside.

    Args:
        folder: of the batch, seen under the same path or URL by all machines, which have the same stunet.
        workers: how many, and where.
        on_status: called now and then.
        say: called with sentences on workers.

    Raises:
        UserError: Ray is missing, no cluster, a worker refused to go on, or tasks are lost before they finish a scan.
        Stopped: Ctrl-C or SIGTERM came; the workers gave back what they had not finished.
    """
    with from_extra("cluster"):
        import ray
    with noting_signals():  # to put back what Ray replaces
        try:
            _require_answer(workers.address)
            ray.init(address=workers.address, log_to_driver=False, configure_logging=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise UserError(f"--cluster {workers.address}: there is no Ray cluster ({_first_line(error)}).") from error
        try:
            _require_room(ray, workers)
            with noting_signals() as stopped:
                _Tasks(ray, folder, workers, on_status, say).run(stopped)
        finally:
            ray.shutdown()
    stopped.raise_stopped()


def _require_answer(address: str) -> None:
    """Ray tries for minutes to reach a cluster that is not there.

    Raises:
        OSError: nobody answers at the address.
    """
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), ANSWER_SECONDS).close()


def _require_room(ray: Any, workers: ClusterWorkers) -> None:
    """Ray lets a task wait for ever that no machine has room for.

    Raises:
        UserError: no machine has the processors and the GPU of a worker.
    """
    needed = {"CPU": workers.options.threads or 1, "GPU": int(workers.with_gpu)}
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if not any(all(machine.get(kind, 0) >= most for kind, most in needed.items()) for machine in machines):
        gpu, device = (" and a GPU", " or another --device") if workers.with_gpu else ("", "")
        raise UserError(
            f"--cluster {workers.address}: no machine has {needed['CPU']} processors{gpu} for a worker; use fewer "
            f"--threads{device}."
        )


def run_task(folder: str, options: WorkerOptions) -> None:
    """What a task does.

    Args:
        folder: DEST.
        options: of the worker.

    Raises:
        UserError: the worker refused to go on.
    """
    Crew(BatchFolder(place(folder)), 1, options).run()


class _Tasks:
    """The tasks that run."""

    def __init__(
        self,
        ray: Any,
        folder: BatchFolder,
        workers: ClusterWorkers,
        on_status: Callable[[BatchStatus], None],
        say: Callable[[str], None],
    ):
        threads = workers.options.threads or 1
        self._ray = ray
        self._start = ray.remote(num_cpus=threads, num_gpus=int(workers.with_gpu), max_retries=0)(run_task)
        self._arguments = str(folder.path), WorkerOptions(threads, workers.options.scan_timeout)
        self._reader = BatchReader(folder)
        self._on_status, self._say = on_status, say
        self._running = [self._start.remote(*self._arguments) for _ in range(workers.count)]
        self._lost, self._finished = 0, 0

    def run(self, stopped: Noted) -> None:
        """Replace what is lost, until all have returned or a signal came; then end what still runs."""
        try:
            while self._running and stopped.number is None:
                ended, self._running = self._ray.wait(self._running, timeout=LOOK_SECONDS)
                for task in ended:
                    self._part_with(task)
                self._on_status(self._reader.status())
        finally:
            self._dismiss()

    def _dismiss(self) -> None:
        """Cancel tasks: their workers give back what they have not finished."""
        for task in self._running:
            self._ray.cancel(task)
        if self._running:
            self._ray.wait(self._running, num_returns=len(self._running), timeout=GRACE_SECONDS)

    def _part_with(self, task: Any) -> None:
        """Collect what a task gave; start another if it was lost."""
        try:
            self._ray.get(task)
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)
            if isinstance(cause, UserError):
                raise cause from error
            if cause is not None and not isinstance(cause, Stopped):  # its machine is shut down
                raise UserError(f"A worker failed: {_first_line(cause)}") from error
            finished = self._reader.status().finished
            self._lost = 1 if finished > self._finished else self._lost + 1
            self._finished = finished
            if self._lost >= MOST_LOST:
                raise UserError(
                    f"{MOST_LOST} workers were lost one after the other, and no scan was finished: {_first_line(error)}"
                ) from error
            self._say(f"A worker was lost ({type(error).__name__}). Another takes its place.")
            self._running.append(self._start.remote(*self._arguments))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
