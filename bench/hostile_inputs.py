"""Give the commands hundreds of damaged files of every kind; print what they answer, their seconds and memory.

The files are those of the fuzzers (tests/fuzz), made from a seed. Each goes through the matching command in a process
of its own, forked from this one, and in an empty folder. A command should segment, import or evaluate what it is given,
or print one sentence, exit with 2 and leave no file; within 10 seconds and 1 GB.

    PYTHONPATH=. python bench/hostile_inputs.py [--each 40] [--seed 1]
"""

import argparse
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
from bad_inputs import CHECKPOINT, Answer, write_checkpoint, write_model
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from stunet.cli.main import run
from stunet.inference.predictor import Predictor as Predictor  # with all that a prediction needs, before the forks
from stunet.weights.import_model import import_model as import_model
from tests.fuzz.corpus import entries, put_files
from tests.fuzz.damage import Files
from tests.fuzz.targets import TARGETS

MOST_SECONDS, MOST_MB = 10.0, 1000.0

PATIENCE_SECONDS = 60.0
"""After these, a command is killed."""

KILO = 1024 if sys.platform != "darwin" else 1


def fault_of(answer: Answer) -> str:
    """What is wrong with an answer; "" if it is as it should be."""
    faults = {
        "ended with a traceback": "Traceback" in answer.said or "internal error" in answer.said,
        f"exit code {answer.exit_code}": answer.exit_code not in (0, 2),
        "no sentence": answer.exit_code == 2 and "stunet: " not in answer.said,
        f"left {', '.join(answer.left)}": answer.exit_code == 2 and bool(answer.left),
        "executed": "marker" in answer.left,
        "too slow": answer.seconds > MOST_SECONDS,
        "too large": answer.peak_mb > MOST_MB,
    }
    return ", ".join(fault for fault, is_there in faults.items() if is_there)


def main() -> None:
    """Print a row for each kind of file, and all that is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--each", type=int, default=40, help="files of each kind")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    tried, faults = 0, []
    with tempfile.TemporaryDirectory() as name:
        sound = Path(name)
        write_sound_files(sound)
        print("| files | command | tried | refused | read | most s | most MB | faults |")
        print("|---|---|---|---|---|---|---|---|")
        for kind, command in commands(sound).items():
            answers = [answer_of(command, files, sound) for files in damaged_files(kind, options.each, options.seed)]
            found = [answer for answer in answers if fault_of(answer)]
            refused = sum(answer.exit_code == 2 for answer in answers)
            shown = " ".join(word for word in command(Path("FILE"))[:2] if word.isalpha())
            print(
                f"| {kind} | {shown} | {len(answers)} | {refused} | {len(answers) - refused} "
                f"| {max(answer.seconds for answer in answers):.1f} | {max(answer.peak_mb for answer in answers):.0f} "
                f"| {len(found)} |",
                flush=True,
            )
            tried += len(answers)
            faults += [(kind, answer) for answer in found]
    print(f"\n{tried} files, {len(faults)} not as they should be.")
    for kind, answer in faults:
        print(f"{kind}: {fault_of(answer)}: {answer.said.strip()[-1500:]}")


def commands(sound: Path) -> dict[str, Callable[[Path], list[str]]]:
    """The command for each kind of file, which gets the folder of the file, or the file if it is one."""
    model, checkpoint, scan, labels = (
        str(sound / name) for name in ("tiny.safetensors", CHECKPOINT, "scan.nii", "labels.nii")
    )

    def predict(path: Path) -> list[str]:
        return ["predict", "-i", str(path), "-o", "out.nii.gz", "-m", model]

    def evaluate(option: str) -> Callable[[Path], list[str]]:
        return lambda path: ["evaluate", "-p", labels, "-r", labels, option, str(path), "-o", "out.json"]

    def with_plans(path: Path) -> list[str]:
        return ["weights", "import", checkpoint, "-o", "out.safetensors", "--plans", str(path)]

    return {
        **dict.fromkeys(("nifti", "nrrd", "metaimage", "mgh", "dicom", "zip"), predict),
        "analyze": lambda path: predict(path / "scan.hdr"),
        "checkpoint": lambda path: ["weights", "import", str(path), "-o", "out.safetensors"],
        "plans_pickle": with_plans,
        "plans": with_plans,
        "model": lambda path: ["predict", "-i", scan, "-o", "out.nii.gz", "-m", str(path)],
        "dataset": evaluate("--names"),
        "mapping": evaluate("--mapping"),
        "ledger": lambda path: ["batch", "status", str(path)],
    }


def damaged_files(kind: str, number: int, seed_value: int) -> list[Files]:
    """So many different damaged files; always the same ones."""
    target, sound = TARGETS[kind], entries(kind)
    found: list[Files] = []

    @seed(seed_value)
    @settings(
        max_examples=4 * number,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(st.sampled_from(sound).flatmap(target.damaged))
    def collect(files: Files) -> None:
        if len(found) < number and files not in sound and files not in found:
            found.append(files)

    collect()
    return found


def answer_of(command: Callable[[Path], list[str]], files: Files, sound: Path) -> Answer:
    """Fork, run the command in an empty folder, and see what it did."""
    with tempfile.TemporaryDirectory(dir=sound) as name:
        place, working, said = Path(name) / "files", Path(name) / "working", Path(name) / "said"
        working.mkdir()
        put_files(files, place)
        path = place / next(iter(files)) if len(files) == 1 and "frames.dcm" not in files else place
        start = time.perf_counter()
        process = get_context("fork").Process(target=_work, args=(command(path), working, said))
        process.start()
        assert process.pid is not None
        exit_code, usage = _ended(process.pid, start)
        seconds = time.perf_counter() - start
        left = tuple(sorted(str(path.relative_to(working)) for path in working.rglob("*")))
        text = said.read_text(errors="replace") if said.exists() else ""
    return Answer(exit_code, text, seconds, usage.ru_maxrss * KILO / 1e6, left)


def _work(words: list[str], working: Path, said: Path) -> None:
    """What the forked process does."""
    os.chdir(working)
    output = os.open(said, os.O_WRONLY | os.O_CREAT)
    for stream in (1, 2):
        os.dup2(output, stream)
    sys.exit(run(words))


def _ended(process: int, start: float) -> tuple[int, resource.struct_rusage]:
    """The exit code and what the process used; it is killed if it takes too long."""
    while not (ended := os.wait4(process, os.WNOHANG))[0]:
        if time.perf_counter() - start > PATIENCE_SECONDS:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.01)
    return os.waitstatus_to_exitcode(ended[1]), ended[2]


def write_sound_files(folder: Path) -> None:
    """What the commands need beside the damaged file."""
    write_model(folder / "tiny.safetensors")
    write_checkpoint(folder / CHECKPOINT)
    put_files(next(files for files in entries("nifti") if "scan.nii" in files), folder)
    nibabel.save(nibabel.Nifti1Image(np.eye(4, dtype=np.uint8)[None].repeat(4, 0), np.eye(4)), folder / "labels.nii")


if __name__ == "__main__":
    main()
