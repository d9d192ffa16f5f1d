"""A folder of scans in one call against one call for each: what loading the model once, reading ahead and writing
behind are worth.

    python bench/batch.py [--cases 30] [--data ../shared/data]
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]


def seconds_of(*arguments: str | Path) -> float:
    """Seconds of one `stunet predict`."""
    command = [str(Path(sys.executable).parent / "stunet"), "predict", *map(str, arguments)]
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def main() -> None:
    """Run both and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=30)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    options = parser.parse_args()
    images = sorted((options.data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))[: options.cases]
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "scans").mkdir()
        (work / "single").mkdir()
        for image in images:
            shutil.copy(image, work / "scans")
        seconds_of("-i", images[0], "-o", work / "warm.nii.gz")
        folder = seconds_of("-i", work / "scans", "-o", work / "folder")
        single = sum(seconds_of("-i", image, "-o", work / "single" / f"{case_of(image)}.nii.gz") for image in images)
        equal = sum(
            (work / "folder" / path.name).read_bytes() == path.read_bytes() for path in (work / "single").glob("*.gz")
        )
    print(f"{len(images)} hippocampus scans, bundled model, {os.cpu_count()} processors\n")
    print("| calls | seconds | a scan | times faster |")
    print("|---|---|---|---|")
    print(f"| {len(images)} single | {single:.1f} | {single / len(images):.2f} | 1.0 |")
    print(f"| 1 for the folder | {folder:.1f} | {folder / len(images):.2f} | {single / folder:.1f} |")
    print(f"\n{equal} of {len(images)} label files are equal to the byte")


def case_of(image: Path) -> str:
    """Its name without channel and suffix."""
    return image.name.removesuffix(".nii.gz").removesuffix("_0000")


if __name__ == "__main__":
    main()
