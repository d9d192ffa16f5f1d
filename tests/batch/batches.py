"""Batches of tiny scans, for the tests of the ledger and its workers."""

import json
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event

import nibabel
import numpy as np

from stunet.batch.claims import Claims
from stunet.batch.durable import put_in_place
from stunet.batch.ends import ScanEnd
from stunet.batch.ledger import Ledger
from stunet.batch.listing import ListedFile, ListedScan, ScanLists
from stunet.batch.liveness import Watch, Worker, heartbeat
from stunet.batch.settings import BatchFolder, BatchSettings
from tests.phantoms import smooth_scan

INFERENCE = {
    "step": 0.5,
    "mirror": False,
    "classes": (),
    "whole_scan": False,
    "skip_air": False,
    "least_spacing": None,
    "backend": "torch",
    "precision": "float32",
}
"""The same arithmetic on every machine."""

POISON = "poison"
"""Name of the scan at which `fake_worker` kills itself."""


def write_scans(folder: Path, names: "list[str]") -> Path:
    """Phantoms of 20 x 18 x 12 voxels, each another."""
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        nibabel.save(nibabel.Nifti1Image(smooth_scan((20, 18, 12), seed), np.eye(4)), folder / f"{name}.nii.gz")
    return folder


def kill_a_worker(batch: BatchFolder) -> bool:
    """SIGKILL the process that has been at work for longest, and say whether there was one."""
    for path in sorted(batch.workers.glob("*.json"), key=lambda path: path.stat().st_mtime):
        worker = Worker(**json.loads(path.read_text()))
        if not worker.is_gone:
            os.kill(worker.process, signal.SIGKILL)
            return True
    return False


def settings(model: Path, **changes: object) -> BatchSettings:
    return BatchSettings(**{"model": str(model), "inference": INFERENCE, **changes})  # type: ignore[arg-type]


def listed_batch(folder: Path, names: "list[str]") -> BatchFolder:
    """A batch whose scans are names only, for workers that read none."""
    batch = BatchFolder(folder)
    batch.start(BatchSettings("no model", ("CT",), inference=INFERENCE))
    ScanLists(Ledger(batch.ledger)).add([ListedScan(name, (ListedFile(f"/scans/{name}.nii"),)) for name in names])
    return batch


def fake_worker(pipe: Connection) -> None:
    """What a crew may start in place of a real worker: it writes names instead of labels, and dies at the poison."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, _ = pipe.recv()
    batch, worker, stop = BatchFolder(folder), Worker.here(), Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    claims = Claims(Ledger(batch.ledger, worker.name), worker.name, Watch(batch.workers), stop)

    def segment(name: str) -> None:
        if name.startswith(POISON):
            os.kill(os.getpid(), signal.SIGKILL)
        if name.startswith("bad"):
            claims.end(name, "failed", error=f"{name} is damaged", kind="damaged")
            pipe.send(ScanEnd(name, 0.0, f"{name} is damaged", 2**20))
            return
        prepared = batch.ledger / f"{worker.name}.{name}"
        prepared.write_text(name)
        if claims.holds(name):
            put_in_place(prepared, batch.path / name)
            claims.end(name, "done", seconds={"total": 0.0}, peak_memory_mib=1, outputs={})
        pipe.send(ScanEnd(name, 0.0, None, 2**20))

    with heartbeat(batch.workers, worker):
        for scan in claims.fresh():
            segment(scan.name)
        while (left := claims.left_behind()) is not None:
            segment(left.name)


def dying_worker(pipe: Connection) -> None:
    """A worker that dies before it does anything."""
    os.kill(os.getpid(), signal.SIGKILL)


def idle_worker(pipe: Connection) -> None:
    """A worker that claims a scan and keeps it until it is told to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    folder, _ = pipe.recv()
    batch, worker, stop = BatchFolder(folder), Worker.here(), Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    claims = Claims(Ledger(batch.ledger, worker.name), worker.name, Watch(batch.workers), stop)
    with heartbeat(batch.workers, worker):
        next(claims.fresh())
        stop.wait()
        claims.release()
