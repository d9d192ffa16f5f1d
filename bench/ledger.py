"""What the ledger of a batch costs by itself: seconds to claim and finish a scan, and to read all histories.

python bench/ledger.py [--scans 20000] [--folder DIR]
"""

import argparse
import tempfile
import time
from pathlib import Path

from stunet.batch.ledger import Ledger
from stunet.batch.prediction_record import peak_memory_bytes

RECORD = {
    "seconds": dict.fromkeys(("load", "preprocess", "network", "labelling", "write", "total"), 1.234),
    "volumes_mm3": {f"structure_{number}": 12345.0 for number in range(104)},
    "outputs": {"scan.nii.gz": {"bytes": 123456, "sha256": "0" * 64}},
    "input": {"bytes": 12345678, "sha256": "0" * 64},
    "peak_memory_mib": 1234,
}
"""As large as that of a CT with 104 structures."""


def main() -> None:
    """Fill a ledger, read it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scans", type=int, default=20000)
    parser.add_argument("--folder", type=Path, help="where the ledger is made; by default a temporary folder")
    options = parser.parse_args()
    names = [f"scan{number:08d}" for number in range(options.scans)]
    with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
        writer = Ledger(Path(temporary), "bench")
        start = time.perf_counter()
        for name in names:
            writer.append(name, 0, "claimed", worker="bench")
            writer.append(name, 1, "done", worker="bench", **RECORD)
        written = time.perf_counter() - start
        before, reader = peak_memory_bytes() or 0, Ledger(Path(temporary))
        first, second = (seconds_to_read(reader) for _ in range(2))
        size = sum(path.stat().st_size for path in Path(temporary).rglob("*.?"))
    print(f"{options.scans} scans, two events each, {size / options.scans / 1000:.1f} kB a scan")
    print(f"claim and finish: {1000 * written / options.scans:.2f} ms a scan")
    print(f"read all: {first:.2f} s, once more: {second:.2f} s")
    print(f"memory of a reader: {((peak_memory_bytes() or 0) - before) / options.scans / 1000:.1f} kB a scan")


def seconds_to_read(ledger: Ledger) -> float:
    """Seconds of one refresh."""
    start = time.perf_counter()
    ledger.refresh()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
