"""Segment many tiny scans by `stunet batch` while workers are killed and a store answers 503; count what was lost.

python bench/disturbed_batch.py [--scans 2000] [--corrupt 20] [--kill-every 100] [--workers 2] [--store]

With --store, scans and labels are in an S3-compatible server on loopback (moto), which refuses one request in 50.
"""

import argparse
import sys
import tempfile
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

from stunet.batch.crew import Crew, WorkerOptions
from stunet.batch.ends import ScanEnd
from stunet.batch.label_record import damages
from stunet.batch.settings import BatchFolder
from stunet.batch.start import start_batch
from stunet.batch.status import BatchReader
from stunet.batch.verify import verify_batch

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))  # the tests' phantoms, tiny model and store

REFUSED = 50
"""One in so many requests is answered 503."""


def main() -> None:
    """Run, and print what became of the scans."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("scans", 2000), ("corrupt", 20), ("kill-every", 100), ("workers", 2)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--store", action="store_true")
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
        start = time.perf_counter()
        batch = start_batch([source_url if store else str(source)], destination, settings(model)).folder
        kills = disturbed(batch, options.workers, options.kill_every)
        seconds = time.perf_counter() - start
        if store is not None:
            store.refuses = lambda number: False
        report(batch, kills, seconds, None if store is None else (store.requests, store.refused))


def written(folder: Path, scans: int, corrupt: int) -> Path:
    """Tiny phantoms, and among them files that are no scans."""
    from tests.batch.batches import write_scans

    source = write_scans(folder / "scans", [f"scan{number:05d}" for number in range(scans - corrupt)])
    for number in range(corrupt):
        (source / f"corrupt{number:03d}.nii.gz").write_bytes(b"no scan")
    return source


def disturbed(batch: BatchFolder, workers: int, kill_every: int) -> int:
    """Work with a crew, and kill the worker that has lived longest every so many scans."""
    from tests.batch.batches import kill_a_worker

    ended, kills = [0], [0]

    def after(end: ScanEnd) -> None:
        ended[0] += 1
        if ended[0] % kill_every == 0:
            kills[0] += kill_a_worker(batch)

    Crew(batch, workers, WorkerOptions(workers), on_scan=after).run()
    return kills[0]


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
