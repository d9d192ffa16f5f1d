"""A worker: one process with one model, which takes scans from the ledger until none is left."""

import os
from collections.abc import Callable, Iterable
from threading import Event

from stunet.batch.claims import Claims
from stunet.batch.ends import Ends, ScanEnd
from stunet.batch.ledger import Ledger
from stunet.batch.listing import ListedScan
from stunet.batch.liveness import LEASE_SECONDS, Watch, Worker, heartbeat
from stunet.batch.predict_cases import CaseResult, segment_each
from stunet.batch.prediction_record import peak_memory_bytes
from stunet.batch.settings import BatchFolder
from stunet.batch.time_limit import TOOK_TOO_LONG, TimeLimit
from stunet.batch.workbench import DestinationError, Workbench
from stunet.errors import OutputError, Stopped

INTERNAL, LATE = "internal error", "took too long"
KINDS = {
    "FileError": "damaged, missing or unreadable",
    "UnsafeFileError": "unsafe file",
    "NotEnoughMemoryError": "not enough memory",
    "OutputError": "labels not possible in this format",
}
"""How a status counts errors, see `stunet.errors`; all others do not suit the model or the settings."""


def work(
    folder: BatchFolder,
    stop: Event,
    tell: Callable[[ScanEnd], None] = lambda end: None,
    lease: float = LEASE_SECONDS,
    scan_timeout: float | None = None,
) -> None:
    """Segment scans of a batch until none is left, or until `stop` is set.

    Args:
        folder: where the batch was started.
        stop: set it to end after the present window; unfinished scans are given back.
        tell: called after each scan.
        lease: seconds after which a worker whose heartbeat stands still is taken for dead.
        scan_timeout: seconds that a scan may take; None for no limit. If one takes longer, this is recorded, and the
            process ends at once with exit code `TOOK_TOO_LONG`, because nothing else ends what hangs.

    Raises:
        UserError: no batch, a model that cannot be loaded or is another than that of the other workers, or a folder
            that cannot be written.
    """
    settings, worker = folder.settings(), Worker.here()
    ledger = Ledger(folder.ledger, worker.name)
    claims = Claims(ledger, worker.name, Watch(folder.workers, lease), stop)
    ends = Ends(claims, tell)
    limit = TimeLimit(scan_timeout, lambda scan: _give_up(scan, ends, scan_timeout))
    bench = Workbench(folder, settings, ledger, claims, ends, limit)
    with heartbeat(folder.workers, worker), limit.watched():
        try:
            _go_through(bench, claims, ends, stop)
            if not stop.is_set():  # every scan is final, so nobody needs what dead workers had prepared
                ledger.files.clean()
        except DestinationError as error:
            raise OutputError(str(error)) from error
        except Stopped:
            pass
        finally:
            claims.release()


def _give_up(scan: str, ends: Ends, seconds: float | None) -> None:
    """Record that a scan took too long, give back what else this worker had, and end its process."""
    sentence = (
        f"{scan}: set aside, because it took longer than --scan-timeout, {seconds:g} seconds. Try it again with "
        "--retry and more time."
    )
    try:
        ends.record_last(ScanEnd(scan, 0.0, sentence, peak_memory_bytes()), "failed", error=sentence, kind=LATE)
    finally:
        os._exit(TOOK_TOO_LONG)


def _go_through(bench: Workbench, claims: Claims, ends: Ends, stop: Event) -> None:
    """What is fresh in one stream, with reading ahead; then what a dead worker had, one by one."""
    _segment(claims.fresh(), bench, ends, stop)
    while (left := claims.left_behind()) is not None:
        _segment([left], bench, ends, stop)
        _segment(claims.fresh(), bench, ends, stop)


def _segment(scans: Iterable[ListedScan], bench: Workbench, ends: Ends, stop: Event) -> None:
    from stunet.inference.stopping import stoppable  # brings torch

    to_do = map(bench.destination, scans)
    results = segment_each(
        *(bench.load, to_do, bench.outputs, stoppable(stop)), read=bench.read, write=bench.write, during=bench.during
    )
    for result in results:
        bench.clean(result.case.name)
        if result.error is not None:
            _record_failure(result, result.error, ends)


def _record_failure(result: CaseResult, error: str, ends: Ends) -> None:
    """Record why a scan failed. That one is done was recorded when its outputs were written."""
    if result.is_internal_error:
        sentence, kind = f"Internal error: {error.strip().splitlines()[-1]}", INTERNAL
        details = {"traceback": error}
    else:
        sentence, kind = error, KINDS.get(result.kind or "", "does not suit the model")
        details = {}
    end = ScanEnd(result.case.name, 0.0, sentence, peak_memory_bytes())
    ends.record(end, "failed", error=sentence, kind=kind, **details)
