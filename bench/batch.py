"""Segment a folder of scans in one call, one call per scan, and by `stunet batch`; kill a call and resume it.

python bench/batch.py [--cases 30] [--data ../shared/data]
python bench/batch.py --cases 4 --scan ct.nii.gz --model ct.safetensors
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
STUNET = str(Path(sys.executable).parent / "stunet")
CORRUPT = "broken"


def main() -> None:
    """Run everything and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=30)
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--scan", type=Path, help="take copies of this scan instead of hippocampi")
    parser.add_argument("--model", default="hippocampus")
    options = parser.parse_args()
    hippocampi = sorted((options.data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        for name in ("scans", "single", "disturbed"):
            (work / name).mkdir()
        sources = [options.scan] * options.cases if options.scan else hippocampi[: options.cases]
        names = [f"copy_{number}.nii.gz" if options.scan else source.name for number, source in enumerate(sources)]
        images = [Path(shutil.copy(source, work / "scans" / name)) for source, name in zip(sources, names, strict=True)]
        seconds_of(options.model, "-i", images[0], "-o", work / "warm.nii.gz")
        folder = seconds_of(options.model, "-i", work / "scans", "-o", work / "folder")
        single = sum(
            seconds_of(options.model, "-i", image, "-o", work / "single" / f"{case_of(image)}.nii.gz")
            for image in images
        )
        print(f"{len(images)} scans, model {Path(options.model).name}, {os.cpu_count()} processors\n")
        print("| calls | seconds | a scan | times faster |")
        print("|---|---|---|---|")
        print(f"| {len(images)} single | {single:.1f} | {single / len(images):.2f} | 1.0 |")
        print(f"| 1 for the folder | {folder:.1f} | {folder / len(images):.2f} | {single / folder:.1f} |")
        for workers in (1, 2):
            batch = seconds_of_batch(options.model, work / "scans", work / f"batch{workers}", workers)
            what = f"batch --workers {workers}"
            print(f"| {what} | {batch:.1f} | {batch / len(images):.2f} | {single / batch:.1f} |")
        print(f"\n{equal_files(work / 'folder', work / 'single')} of {len(images)} label files are equal to the byte")
        for workers in (1, 2):
            equal = equal_files(work / f"batch{workers}", work / "folder")
            print(f"batch --workers {workers}: {equal} of {len(images)} are equal to those of predict")
        print(disturbed(options.model, work, images))


def seconds_of(model: str, *arguments: str | Path) -> float:
    """Run `stunet predict` once and return its seconds."""
    start = time.perf_counter()
    subprocess.run([STUNET, "predict", "-m", model, *map(str, arguments)], check=True, capture_output=True)
    return time.perf_counter() - start


def seconds_of_batch(model: str, scans: Path, destination: Path, workers: int) -> float:
    """Seconds of one `stunet batch`."""
    start = time.perf_counter()
    command = [STUNET, "batch", str(scans), "-o", str(destination), "-m", model, "--workers", str(workers)]
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def disturbed(model: str, work: Path, images: list[Path]) -> str:
    """Kill a call half way and resume it with a truncated scan among the scans. Returns the outcome as a sentence."""
    middle = images[len(images) // 2]
    content = middle.read_bytes()
    (work / "scans" / f"{case_of(middle)}_{CORRUPT}_0000.nii.gz").write_bytes(content[: len(content) // 2])
    command = [STUNET, "predict", "-m", model, "-i", str(work / "scans"), "-o", str(work / "disturbed")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while len(list((work / "disturbed").glob("*.nii.gz"))) < len(images) // 3 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    written = len(list((work / "disturbed").glob("*.nii.gz")))
    resumed = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, check=False)
    cases = json.loads(resumed.stdout)["cases"]
    failed = [case["case"] for case in cases if "error" in case]
    left_alone = sum("resumed" in case for case in cases)
    equal = equal_files(work / "disturbed", work / "folder")
    return (
        f"killed (SIGKILL) after {written} scans, resumed with a corrupt scan: {left_alone} were left as they were, "
        f"{len(failed)} failed ({', '.join(failed)}), exit code {resumed.returncode}; {equal} of {len(images)} label "
        "files are equal to the byte to those of the undisturbed call"
    )


def equal_files(folder: Path, other: Path) -> int:
    """Number of label files that are identical in both folders."""
    return sum(path.read_bytes() == (folder / path.name).read_bytes() for path in other.glob("*.nii.gz"))


def case_of(image: Path) -> str:
    """The image's name without channel and suffix."""
    return image.name.removesuffix(".nii.gz").removesuffix("_0000")


if __name__ == "__main__":
    main()
