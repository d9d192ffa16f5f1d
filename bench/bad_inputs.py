"""Run all bad inputs and print a table: what the commands answer, how long they take, and how much memory.

Each entry of the folder's manifest.json goes through the matching command, in its own process and an empty folder:
images through `stunet predict` with a tiny model of random weights, checkpoints, pickles and archives through `stunet
weights import`, label maps through `stunet evaluate`. For a malformed entry, the command should print one sentence that
names it, exit with 2, and leave no file. A well-formed entry should be segmented.

    python bench/bad_inputs.py [--data ../shared/data] [-t SECONDS]
"""

import argparse
import gzip
import json
import multiprocessing
import os
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from stunet.labels.ontology import LABELS

REPOSITORY = Path(__file__).resolve().parents[1]
STUNET = Path(sys.executable).with_name("stunet")

MARKER = "STUNET_PICKLE_EXECUTED.marker"
"""The file that a pickle of the folder creates if it is executed."""

CHECKPOINT = "needs_plans.model"
BOMB = "gzip_bomb_8GB_zeros.nii.gz"
BOMB_SHAPE = (2048, 2048, 1040)

PATIENCE_SECONDS = 0.02
"""Seconds between checks of a running command."""


@dataclass(frozen=True)
class Answer:
    """The outcome of a command.

    Attributes:
        exit_code: negative if it was killed.
        said: its stderr.
        seconds: until it ended.
        peak_mb: its peak resident memory.
        left: names of the files that it left in its folder.
    """

    exit_code: int
    said: str
    seconds: float
    peak_mb: float
    left: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """One input and the command for it.

    Attributes:
        file: the input.
        words: of the command; the output must be called "out.nii.gz" or "out.safetensors".
        is_wellformed: whether it should be segmented rather than refused.
    """

    file: Path
    words: tuple[str, ...]
    is_wellformed: bool


def main() -> None:
    """Print the table, in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared")
    parser.add_argument("--data", type=Path, default=Path(shared) / "data", help="folder that contains bad_inputs")
    parser.add_argument("-t", "--seconds", type=float, default=60.0, help="timeout of each command")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        trials = make_trials(options.data.resolve() / "bad_inputs", Path(temporary))
        print("| file | command | exit | said | s | MB |\n|---|---|---|---|---|---|")
        as_wished = [report(trial, Path(temporary), options.seconds) for trial in trials]
    print(f"\n{sum(as_wished)} of {len(trials)} as they should be: ", end="")
    refused = sum(not trial.is_wellformed for trial in trials)
    print(f"{len(trials) - refused} to be segmented, {refused} to be refused with a sentence.")


def make_trials(bad_inputs: Path, temporary: Path) -> list[Trial]:
    """One trial per entry of the manifest; two for the pickle."""
    model = temporary / "tiny.safetensors"
    context = multiprocessing.get_context("spawn")  # keep this process small: children inherit its peak memory
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        pool.submit(write_model, model).result()
        pool.submit(write_checkpoint, temporary / CHECKPOINT).result()
    write_bomb(temporary / BOMB)
    names = temporary / "dataset.json"
    names.write_text(json.dumps({"labels": {name: value for value, name in enumerate(LABELS)}}))
    trials = []
    for entry in json.loads((bad_inputs / "manifest.json").read_text()):
        folder = temporary if entry["file"] == BOMB else bad_inputs
        file = folder / entry["file"]
        for words in commands_for(entry["kind"], file, temporary):
            trials.append(Trial(file, words, entry["wellformed"]))
    return trials


def commands_for(kind: str, file: Path, temporary: Path) -> list[tuple[str, ...]]:
    """The commands for an entry of this kind."""
    if kind == "labels":
        names = str(temporary / "dataset.json")
        return [("evaluate", "-p", str(file), "-r", str(file), "--names", names, "-o", "out.json")]
    as_model = ("weights", "import", str(file), "-o", "out.safetensors")
    if kind == "pickle":
        checkpoint = str(temporary / CHECKPOINT)
        return [as_model, ("weights", "import", checkpoint, "-o", "out.safetensors", "--plans", str(file))]
    if kind in ("checkpoint", "zip"):
        return [as_model]
    return [("predict", "-i", str(file), "-o", "out.nii.gz", "-m", str(temporary / "tiny.safetensors"))]


def report(trial: Trial, temporary: Path, patience: float) -> bool:
    """Run one trial and print its row. Returns whether the outcome is as expected."""
    with tempfile.TemporaryDirectory(dir=temporary) as folder:
        answer = answer_of(trial.words, Path(folder), patience)
    lines = answer.said.strip().splitlines()
    if trial.is_wellformed:
        as_wished = answer.exit_code == 0 and "out.nii.gz" in answer.left
    else:
        while lines and trial.file.name not in lines[0]:  # skip the line about the backend
            lines.pop(0)
        named = bool(lines) and lines[0].startswith("stunet: ")
        as_wished = answer.exit_code == 2 and named and not answer.left
    said = "segmented" if answer.exit_code == 0 else " ".join(lines[:1])
    said = said.removeprefix("stunet: ").replace(f"{trial.file.parent}{os.sep}", "").replace("|", "\\|")
    rest = f" (and {len(lines) - 1} lines more)" if len(lines) > 1 and answer.exit_code else ""
    oddity = "" if as_wished else f" **not as it should be: left {', '.join(answer.left) or 'nothing'}**"
    command = "weights import --plans" if "--plans" in trial.words else " ".join(trial.words[:2]).partition(" -")[0]
    row = f"{command} | {answer.exit_code} | {said}{rest}{oddity} | {answer.seconds:.1f} | {answer.peak_mb:.0f}"
    print(f"| {trial.file.name} | {row} |", flush=True)
    return as_wished


def answer_of(words: tuple[str, ...], folder: Path, patience: float) -> Answer:
    """Run `stunet` in `folder`, and kill it after `patience` seconds."""
    with tempfile.TemporaryFile() as stderr:
        start = time.perf_counter()
        child = subprocess.Popen([STUNET, *words], cwd=folder, stdout=subprocess.DEVNULL, stderr=stderr)
        while not (ended := os.wait4(child.pid, os.WNOHANG))[0]:
            if time.perf_counter() - start > patience:
                child.kill()
            time.sleep(PATIENCE_SECONDS)
        seconds = time.perf_counter() - start
        child.returncode = os.waitstatus_to_exitcode(ended[1])
        stderr.seek(0)
        said = stderr.read().decode(errors="replace")
    peak = ended[2].ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    left = tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*")))
    return Answer(child.returncode, said, seconds, peak / 1e6, left)


def write_model(path: Path) -> None:
    """Write a `tiny` network with random weights, three classes, and windows of 32 voxels at 3 mm."""
    import torch

    from stunet.networks.registry import build, network_spec
    from stunet.networks.stunet import PUBLISHED_STRIDES
    from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
    from stunet.weights.model_file import ModelCard, save_model

    torch.manual_seed(0)
    network = build(network_spec("tiny", 1, 3, strides=PUBLISHED_STRIDES))
    plan = PreprocessingPlan(
        convention="nnunet_v2",
        spacing=(3.0, 3.0, 3.0),
        patch_size=(32, 32, 32),
        normalization=(ChannelNormalization("zscore"),),
        orientation="RAS",
    )
    card = ModelCard(
        name="random",
        network=network.spec,
        preprocessing=plan,
        labels=("background", "first", "second"),
        channels=("CT",),
    )
    save_model(path, network.state_dict(), card)


def write_checkpoint(path: Path) -> None:
    """Write a checkpoint in nnU-Net v1's format, which needs plans."""
    import torch

    from stunet.networks.registry import build, network_spec
    from stunet.weights.checkpoint import to_official_names

    torch.save({"state_dict": to_official_names(build(network_spec("tiny", 1, 3)).state_dict())}, path)


def write_bomb(path: Path) -> None:
    """Write a NIfTI file of 8.7 GB of zeros in 8.5 MB, as many gzip members with the same zeros."""
    header = bytearray(352)
    struct.pack_into("<i", header, 0, 348)
    struct.pack_into("<8h", header, 40, 3, *BOMB_SHAPE, 1, 1, 1, 1)
    struct.pack_into("<2h", header, 70, 4, 16)  # int16
    struct.pack_into("<8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into("<f", header, 108, 352)
    struct.pack_into("<2h", header, 252, 0, 2)
    struct.pack_into("<12f", header, 280, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0)
    header[344:348] = b"n+1\0"
    slices = gzip.compress(bytes(2 * BOMB_SHAPE[0] * BOMB_SHAPE[1] * 8))
    path.write_bytes(gzip.compress(bytes(header)) + slices * (BOMB_SHAPE[2] // 8))


if __name__ == "__main__":
    main()
