"""Segment many tiny scans by `stunet batch` while workers are killed and a store answers 503; count what was lost.

    python bench/disturbed_batch.py [--scans 2000] [--corrupt 20] [--kill-every 100] [--workers 2] [--by crew]
    python bench/disturbed_batch.py --by separate --workers 3
    python bench/disturbed_batch.py --by ray --workers 2
    python bench/disturbed_batch.py --store --scans 300
    python bench/disturbed_batch.py --scans 60000 --kill-every 0 --minutes 60 --workers 1

--by says who works: the processes of one `stunet batch`; several `stunet batch work`, which are killed with all their
processes and replaced; or tasks on two Ray nodes on this machine, one of which is lost halfway. With --store, scans and
labels are in an S3-compatible server on loopback (moto), which refuses one request in 50. The last line is a soak:
nothing is killed, and a signal ends the work after an hour. Needs the tests' packages; `--by ray` needs the extra
`cluster`, too.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread, Timer

import psutil

from stunet.batch.crew import Crew
from stunet.batch.label_record import damages
from stunet.batch.member import WorkerOptions
from stunet.batch.settings import BatchFolder
from stunet.batch.start import start_batch
from stunet.batch.status import BatchReader, BatchStatus
from stunet.batch.verify import verify_batch
from stunet.errors import Stopped

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the tests' phantoms, tiny model and store

REFUSED = 50
"""One in so many requests is answered 503."""

LOOK_SECONDS = 1.0
"""Between two looks at memory, and at processes to replace."""

LOADING_SECONDS = 20
"""A worker that is younger still loads its model, and its memory is not counted."""


def main() -> None:
    """Run, and print what became of the scans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("scans", 2000), ("corrupt", 20), ("kill-every", 100), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--by", choices=WORKED, default="crew")
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--minutes", type=float, help="end the work after that time by a signal")
    options = parser.parse_args()
    from tests.batch.batches import settings
    from tests.batch.loopback_store import faulty_store
    from tests.inference.samples import save_tiny_model

    with tempfile.TemporaryDirectory() as temporary, faulty_store() if options.store else nullcontext() as store:
        folder = Path(temporary)
        source, destination = written(folder, options.scans, options.corrupt), str(folder / "out")
        if store is not None:
            bucket = store.bucket()
            for path in source.iterdir():
                store.client().upload_file(str(path), bucket.removeprefix("s3://"), f"in/{path.name}")
            source_url, destination = f"{bucket}/in", f"{bucket}/out"
            store.refuses = lambda number: number % REFUSED == 0
        model = save_tiny_model(folder / "tiny.safetensors")
        batch = start_batch([source_url if store else str(source)], destination, settings(model)).folder
        killing, watch = Killing(batch, options.kill_every), Watch(batch)
        start = time.perf_counter()
        with ended_after(options.minutes), watch.on(), suppress(Stopped):
            WORKED[options.by](batch, options.workers, killing)
        seconds = time.perf_counter() - start
        if store is not None:
            store.refuses = lambda number: False
        report(batch, killing.kills, seconds, None if store is None else (store.requests, store.refused))
        print(*watch.rows(), sep="\n")


def written(folder: Path, scans: int, corrupt: int) -> Path:
    """Tiny phantoms, and among them files that are no scans."""
    from tests.batch.batches import write_scans

    source = write_scans(folder / "scans", [f"scan{number:05d}" for number in range(scans - corrupt)])
    for number in range(corrupt):
        (source / f"corrupt{number:03d}.nii.gz").write_bytes(b"no scan")
    return source


@contextmanager
def ended_after(minutes: float | None) -> Iterator[None]:
    """End the work by a signal, as a scheduler does."""
    timer = Timer((minutes or 0) * 60, os.kill, (os.getpid(), signal.SIGTERM))
    if minutes:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()


# Who works


@dataclass
class Killing:
    """Kills the worker that has lived longest each time so many scans have ended.

    Attributes:
        batch: that is worked on.
        every: so many scans; 0 for never.
        kills: how many were killed.
    """

    batch: BatchFolder
    every: int
    kills: int = 0

    def after(self, ended: int, kill: "Callable[[], bool] | None" = None) -> None:
        """Kill if it is time, now that so many scans have ended."""
        from tests.batch.batches import kill_a_worker

        if self.every and ended // self.every > self.kills:
            self.kills += kill() if kill else kill_a_worker(self.batch)


def by_crew(batch: BatchFolder, workers: int, killing: Killing) -> None:
    """By the worker processes of one call."""
    ended = iter(range(1, 1 << 30))
    Crew(batch, workers, WorkerOptions(workers), on_scan=lambda end: killing.after(next(ended))).run()


def by_separate_processes(batch: BatchFolder, workers: int, killing: Killing) -> None:
    """By several calls of `stunet batch work`, which know of each other by the batch's folder alone."""
    command = [sys.executable, "-m", "stunet", "batch", "work", str(batch.path), "--threads", "1", "--quiet"]
    reader = BatchReader(batch)
    running: list[subprocess.Popen[bytes]] = []

    def lose_one() -> bool:
        os.killpg(running[0].pid, signal.SIGKILL)
        running.pop(0).wait()
        return True

    while (status := reader.status()).finished < status.scans:
        running = [process for process in running if process.poll() is None]
        while len(running) < workers:
            running.append(subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL))
        killing.after(status.finished, lose_one)
        time.sleep(LOOK_SECONDS)
    for process in running:
        process.wait()


def by_ray(batch: BatchFolder, workers: int, killing: Killing) -> None:
    """By tasks on two Ray nodes of this machine. Halfway, one node is lost with all its processes."""
    from ray.cluster_utils import Cluster

    from stunet.batch.cluster import ClusterWorkers, work_on_cluster

    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": workers, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=workers)]

    def after(status: BatchStatus) -> None:
        killing.after(status.finished)
        if nodes and status.finished > status.scans / 2:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            print(f"a node was lost after {status.finished} scans")

    try:
        work_on_cluster(batch, ClusterWorkers(cluster.address, workers, WorkerOptions(1)), after, print)
    finally:
        cluster.shutdown()


WORKED = {"crew": by_crew, "separate": by_separate_processes, "ray": by_ray}


# What it took


@dataclass(frozen=True)
class Look:
    """What a process has at one moment.

    Attributes:
        anonymous: MB that it allocated, in memory or swapped. This is what a leak enlarges.
        unique: MB that only this process has in memory, with pages of program files. This also changes when another
            process loads the same files or ends, and when the system takes pages back that are read again.
        files: number of open files.
    """

    anonymous: float
    unique: float
    files: int

    @classmethod
    def at(cls, process: psutil.Process) -> "Look":
        """What the process has now."""
        maps = process.memory_maps(grouped=True)
        allocated = sum(one.anonymous + one.swap for one in maps)
        unique = sum(one.private_clean + one.private_dirty for one in maps)
        return cls(allocated / 1e6, unique / 1e6, process.num_fds())


LOOKED_AT = {"anonymous": "MB allocated", "unique": "MB not shared", "files": "open files"}


@dataclass
class Watch:
    """Looks at this process and at the workers from time to time.

    Attributes:
        batch: that is worked on.
        own: looks at this process.
        workers: looks at each worker, by the number of its process.
    """

    batch: BatchFolder
    own: list[Look] = field(default_factory=list)
    workers: dict[int, list[Look]] = field(default_factory=dict)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Look from time to time, in the background."""
        end = Event()
        thread = Thread(target=self._look_until, args=(end,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            end.set()
            thread.join()

    def _look_until(self, end: Event) -> None:
        while not end.wait(LOOK_SECONDS):
            self.own.append(Look.at(psutil.Process()))
            for path in self.batch.workers.glob("*.json"):
                with suppress(psutil.Error, OSError, ValueError):
                    process = psutil.Process(json.loads(path.read_text())["process"])
                    is_gone = process.status() == psutil.STATUS_ZOMBIE
                    if not is_gone and time.time() - process.create_time() > LOADING_SECONDS:
                        self.workers.setdefault(process.pid, []).append(Look.at(process))

    def rows(self) -> Iterator[str]:
        """Rows of a table: the medians of each tenth of the looks."""
        longest = max(self.workers.values(), key=len, default=[])
        for name, looks in (("this process", self.own), ("the worker that lived longest", longest)):
            if not looks:
                continue
            cuts = [len(looks) * tenth // 10 for tenth in range(11)]
            tenths = [looks[start:stop] for start, stop in pairwise(cuts) if stop > start]
            for place, what in LOOKED_AT.items():
                medians = (statistics.median(getattr(look, place) for look in tenth) for tenth in tenths)
                middle = ", ".join(f"{median:.0f}" for median in medians)
                yield f"| {what} of {name}: each tenth of {len(looks)} looks | {middle} |"


def report(batch: BatchFolder, kills: int, seconds: float, requests: tuple[int, int] | None) -> None:
    """Print a table of what the ledger says, and of what is there."""
    records = BatchReader(batch).records()
    events = Counter(event["event"] for record in records for event in record.history)
    twice = sum([event["event"] for event in record.history].count("done") > 1 for record in records)
    whole = sum(
        not any(damages(batch.path, record.state.last["outputs"])) for record in records if record.state.state == "done"
    )
    print("| what | |\n|---|---|")
    print(f"| scans | {len(records)} |\n| states | {dict(Counter(record.state.state for record in records))} |")
    print(f"| outputs that are whole | {whole} |\n| done twice | {twice} |\n| workers killed | {kills} |")
    print(f"| events | {dict(events)} |\n| problems of verify | {len(verify_batch(batch).problems)} |")
    if requests is not None:
        print(f"| requests, of them answered 503 | {requests[0]}, {requests[1]} |")
    print(f"| seconds | {seconds:.0f} |")


if __name__ == "__main__":
    main()
