"""Segment a folder of scans in one call, one call per scan, and by `stunet batch`; kill a call and resume it.

The seconds for a further scan are those of an archive, where the start no longer counts: from a folder of `--cases`
scans and one of `--more` times as many. With few scans, the second worker has little or nothing to do.

python bench/batch.py [--cases 30] [--more 8] [--data ../shared/data]
python bench/batch.py --cases 5 --more 3 --scan ct.nii.gz --model ct.safetensors
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
from functools import partial
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
STUNET = str(Path(sys.executable).parent / "stunet")
CORRUPT = "broken"


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=30)
    parser.add_argument("--more", type=int, default=8, help="times as many scans, to measure what a further scan takes")
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    parser.add_argument("--data", type=Path, default=shared / "data")
    parser.add_argument("--scan", type=Path, help="take copies of this scan instead of hippocampi")
    parser.add_argument("--model", default="hippocampus")
    options = parser.parse_args()
    hippocampi = sorted((options.data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))
    sources = [options.scan] if options.scan else hippocampi
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        few, many = (copies(sources, n, work / f"scans{n}") for n in (options.cases, options.cases * options.more))
        seconds_of(predict(options.model, few[0], work / "warm.nii.gz"))
        (work / "single").mkdir()
        single = sum(
            seconds_of(predict(options.model, image, work / "single" / f"{case_of(image)}.nii.gz")) for image in few
        )
        print(f"Model {Path(options.model).name}, {os.cpu_count()} processors\n")
        print(f"| calls | {len(few)} scans: seconds | {len(many)} scans: seconds | seconds for a further scan |")
        print("|---|---|---|---|")
        print(f"| one for each scan | {single:.1f} | | {single / len(few):.2f} |")
        for name, command in (
            ("predict of the folder", predict),
            ("batch --workers 1", partial(batch, workers=1)),
            ("batch --workers 2", partial(batch, workers=2)),
        ):
            seconds = [
                seconds_of(command(options.model, images[0].parent, work / name / images[0].parent.name))
                for images in (few, many)
            ]
            further = (seconds[1] - seconds[0]) / (len(many) - len(few))
            print(f"| {name} | {seconds[0]:.1f} | {seconds[1]:.1f} | {further:.2f} |")
        print()
        folder = work / "predict of the folder"
        for name, images in (("single", few), ("batch --workers 1", many), ("batch --workers 2", many)):
            labels = work / name if name == "single" else work / name / images[0].parent.name
            equal = equal_files(folder / images[0].parent.name, labels)
            print(f"{name}: {equal} of {len(images)} label files have the bytes of predict's")
        print(disturbed(options.model, few, work / "disturbed", folder / few[0].parent.name))


def copies(sources: list[Path], number: int, folder: Path) -> list[Path]:
    """So many scans in a new folder: the sources, again and again."""
    folder.mkdir()
    return [
        Path(shutil.copy(sources[index % len(sources)], folder / f"scan_{index:05}.nii.gz")) for index in range(number)
    ]


def predict(model: str, source: Path, output: Path) -> list[str]:
    """The command that segments a scan or a folder."""
    return [STUNET, "predict", "-m", model, "-i", str(source), "-o", str(output)]


def batch(model: str, source: Path, output: Path, workers: int) -> list[str]:
    """The command that segments a folder as a batch."""
    return [STUNET, "batch", str(source), "-o", str(output), "-m", model, "--workers", str(workers)]


def seconds_of(command: list[str]) -> float:
    """Run a command and return its seconds."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def disturbed(model: str, images: list[Path], output: Path, undisturbed: Path) -> str:
    """Kill a call half way and resume it with a truncated scan among the scans. Returns the outcome as a sentence."""
    middle = images[len(images) // 2]
    content = middle.read_bytes()
    middle.with_name(f"{case_of(middle)}_{CORRUPT}.nii.gz").write_bytes(content[: len(content) // 2])
    command = predict(model, middle.parent, output)
    output.mkdir()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while len(list(output.glob("*.nii.gz"))) < len(images) // 3 and child.poll() is None:
            time.sleep(0.005)
        child.send_signal(signal.SIGKILL)
    written = len(list(output.glob("*.nii.gz")))
    resumed = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, check=False)
    cases = json.loads(resumed.stdout)["cases"]
    failed = [case["case"] for case in cases if "error" in case]
    left_alone = sum("resumed" in case for case in cases)
    return (
        f"killed (SIGKILL) after {written} scans, resumed with a corrupt scan: {left_alone} were left as they were, "
        f"{len(failed)} failed ({', '.join(failed)}), exit code {resumed.returncode}; "
        f"{equal_files(undisturbed, output)} of {len(images)} label files have the bytes of the undisturbed call"
    )


def equal_files(folder: Path, other: Path) -> int:
    """Number of label files that are identical in both folders."""
    return sum(path.read_bytes() == (folder / path.name).read_bytes() for path in other.glob("*.nii.gz"))


def case_of(image: Path) -> str:
    """The image's name without suffix."""
    return image.name.removesuffix(".nii.gz")


if __name__ == "__main__":
    main()
