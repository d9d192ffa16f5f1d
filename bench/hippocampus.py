"""Compare STU-Net with nnU-Net's own trainer and network on real data: same cases, iterations, batch and patch.

    python bench/hippocampus.py -o FOLDER [--data ../shared/data/Dataset004_Hippocampus] [--epochs 10] [--threads 1]

Each system trains in its own process, one after another, and runs its own validation (nnU-Net's predictor, with
mirroring if the training used it). To continue an interrupted run, use the same command. The table is printed from the
files of the trainings.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
DATASET = "Dataset004_Hippocampus"
BATCH_SIZE = 2
PEER_PLANS = "nnUNetPlans_batch2"
EPOCH_SECONDS = re.compile(r"Epoch time: ([\d.]+) s")
ITERATIONS_PER_EPOCH = 250

TRAIN_NNUNET = """
import sys
import torch
from tests.training.torchvision_operators import declare_if_missing
declare_if_missing()
from nnunetv2.run.run_training import get_trainer_from_args, maybe_load_checkpoint
dataset, plans, epochs, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
trainer = get_trainer_from_args(dataset, "3d_fullres", 0, "nnUNetTrainer", plans, device=torch.device("cpu"))
trainer.num_epochs, trainer.save_every = epochs, 1
maybe_load_checkpoint(trainer, True, False, None)
if trainer.current_epoch < epochs:
    trainer.run_training()
trainer.perform_actual_validation()
"""
"""`nnUNetv2_train` with another number of epochs, also if torchvision was built for CUDA and torch was not."""


@dataclass(frozen=True)
class System:
    """A system to train.

    Attributes:
        title: in the table.
        size: of the STU-Net; None for nnU-Net's own network.
        options: of `stunet train`.
    """

    title: str
    size: str | None
    options: tuple[str, ...] = ()


SYSTEMS = {
    "nnunet": System("nnU-Net, its own trainer and network", None),
    "small": System("STU-Net-S", "small"),
    "tiny": System("STU-Net tiny", "tiny"),
    "small-plain": System(
        "STU-Net-S, --no-augment-mirror --no-paper-transforms",
        "small",
        ("--no-augment-mirror", "--no-paper-transforms"),
    ),
    "tiny-plain": System(
        "STU-Net tiny, --no-augment-mirror --no-paper-transforms",
        "tiny",
        ("--no-augment-mirror", "--no-paper-transforms"),
    ),
}


def main() -> None:
    """Prepare, train one after another, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / DATASET)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS), choices=SYSTEMS)
    asked = parser.parse_args()
    home = asked.output.resolve()
    (home / "raw").mkdir(parents=True, exist_ok=True)
    if not (home / "raw" / DATASET).exists():
        (home / "raw" / DATASET).symlink_to(asked.data.resolve())
    for name in asked.systems:
        if summary(home, name) is None:
            train(home, name, asked.epochs, asked.threads)
    print_table(home, asked.systems, asked.epochs, asked.threads)


def environment(home: Path, name: str, threads: int) -> dict[str, str]:
    """Folders of a system: prepared data are shared, results are separate."""
    folders = {"raw": home / "raw", "preprocessed": home / "preprocessed", "results": home / name}
    return {
        **os.environ,
        "STUNET_HOME": str(home),
        "OMP_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(REPOSITORY), os.environ.get("PYTHONPATH")))),
        **{f"nnUNet_{kind}": str(folder) for kind, folder in folders.items()},
    }


def train(home: Path, name: str, epochs: int, threads: int) -> None:
    """Train and validate one system, or continue it."""
    system, variables = SYSTEMS[name], environment(home, name, threads)
    stunet = str(Path(sys.executable).parent / "stunet")
    with (home / f"{name}.log").open("a") as log:

        def run(*command: str) -> None:
            subprocess.run(command, env=variables, stdout=log, stderr=log, check=True)

        run(stunet, "prepare", "-d", "4", "--size", system.size or "tiny")
        if system.size is None:
            write_peer_plans(home, run)
            run(sys.executable, "-c", TRAIN_NNUNET, DATASET, PEER_PLANS, str(epochs), str(threads))
            return
        resume = ["--resume"] if any((home / name).rglob("stunet_checkpoint")) else []
        options = ["--epochs", str(epochs), "--batch-size", str(BATCH_SIZE), "--workers", "1", "--save-every", "1"]
        run(stunet, "train", "-d", "4", "-f", "0", "--size", system.size, *options, *system.options, *resume)


def write_peer_plans(home: Path, run) -> None:  # type: ignore[no-untyped-def]
    """nnU-Net's own plan with our batch size, using the prepared images (which are equal: tests/training)."""
    folder = home / "preprocessed" / DATASET
    planner = "nnunetv2.experiment_planning.experiment_planners.default_experiment_planner"
    run(sys.executable, "-c", f"from {planner} import ExperimentPlanner; ExperimentPlanner(4).plan_experiment()")
    plans = json.loads((folder / "nnUNetPlans.json").read_text())
    plans["plans_name"] = PEER_PLANS
    plans["configurations"]["3d_fullres"].update(batch_size=BATCH_SIZE, data_identifier="STUNetPlans_3d_fullres")
    (folder / f"{PEER_PLANS}.json").write_text(json.dumps(plans))


def summary(home: Path, name: str) -> dict | None:
    """nnU-Net's validation summary; None if it does not exist yet."""
    files = list((home / name).rglob("fold_0/validation/summary.json"))
    return json.loads(files[0].read_text()) if files else None


def seconds_per_iteration(home: Path, name: str) -> float:
    """Median over the epochs. It includes an epoch's 50 validation steps for both systems."""
    logs = "".join(log.read_text() for log in (home / name).rglob("fold_0/training_log_*.txt"))
    return statistics.median(map(float, EPOCH_SECONDS.findall(logs))) / ITERATIONS_PER_EPOCH


def print_table(home: Path, names: list[str], epochs: int, threads: int) -> None:
    """Print the DSC of each label, the mean, and seconds; the last column is the ratio to the first system."""
    print(
        f"{DATASET}, fold 0, {epochs * ITERATIONS_PER_EPOCH} iterations, batch {BATCH_SIZE}, {threads} thread(s) each\n"
    )
    print("| | Anterior | Posterior | mean DSC | s an iteration | faster |")
    print("|---|---|---|---|---|---|")
    first = seconds_per_iteration(home, names[0])
    for name in names:
        found = summary(home, name)
        assert found is not None
        labels = [found["mean"][label]["Dice"] for label in ("1", "2")]
        seconds = seconds_per_iteration(home, name)
        cells = [f"{value:.4f}" for value in (*labels, found["foreground_mean"]["Dice"])]
        print(f"| {SYSTEMS[name].title} | {' | '.join(cells)} | {seconds:.3f} | {first / seconds:.2f} |")


if __name__ == "__main__":
    main()
