"""Does pre-training help with few real cases? Pre-trained against from scratch, with the same iterations.

    python bench/transfer.py -o FOLDER [--data ../shared/data] [--iterations 400] [--pretrain 2500] [--threads 1]
    python bench/transfer.py -o FOLDER --recipes scratch finetune warmup --cases 20

MR to MR: a network is pre-trained on 120 hippocampi whose two labels are merged, and fine-tuned on 10, 20 and 40 others
with both labels. MR to PET: the same network is fine-tuned on the tumours of Dataset901_STSPET. A larger subset
contains the smaller ones. Each seed draws other subsets, initial weights and batches. All are validated on the same
cases, which no training uses (40 hippocampi, 12 tumours). To continue an interrupted run, use the same command. Results
are written to FOLDER/transfer.json.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import nibabel
import numpy as np

from stunet.datasets.subset import write_subsets
from stunet.files import write_json

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
STUNET = str(Path(sys.executable).parent / "stunet")
MERGED, BOTH, PET = "Dataset011_HippocampusMerged", "Dataset012_HippocampusFew", "Dataset901_STSPET"
SIZE, SEEDS = "tiny", (0, 1, 2)
SYSTEMS = {
    "finetune": "pre-trained on MR",
    "warmup": "pre-trained on MR, recipe warmup",
    "scratch": "from scratch",
}
"""Names in the results, by recipe."""

TRAINERS = {"finetune": "_ft", "warmup": "_warmup", "scratch": ""}
"""Suffixes of the trainers' folder names, by recipe."""

ITERATIONS_PER_EPOCH = 5
"""Few, so that the recipe with a warm-up (the first 20th of the epochs) warms up in a short training, too."""

PRETRAINING_CASES, HIPPOCAMPI_KEPT_APART, TUMOURS_KEPT_APART = 120, 40, 12


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        dataset: to train on.
        cases: number of training cases.
        seed: of the subset, the weights and the batches.
        fold: of the subset, in the splits file.
        recipe: "scratch", or one that starts from the pre-trained network.
    """

    dataset: str
    cases: int
    seed: int
    fold: int
    recipe: str

    @property
    def trainer(self) -> str:
        """The trainer class in nnU-Net's folder name."""
        return f"STUNetTrainer_{SIZE}{TRAINERS[self.recipe]}"

    def start(self, pretrained: Path) -> tuple[str, ...]:
        """The options of `stunet train` for its start."""
        return () if self.recipe == "scratch" else ("--from", str(pretrained), "--recipe", self.recipe)


def main() -> None:
    """Make the datasets, pre-train, train with each recipe, print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=SHARED / "data")
    parser.add_argument("--iterations", type=int, default=400, help="of each training, in epochs of 5")
    parser.add_argument("--pretrain", type=int, default=2500, help="iterations of the pre-training, in epochs of 250")
    parser.add_argument("--recipes", nargs="+", choices=SYSTEMS, default=["finetune", "scratch"])
    parser.add_argument("--cases", nargs="+", type=int, help="numbers of training cases; all by default")
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    home = asked.output.resolve()
    os.environ.update(STUNET_HOME=str(home), OMP_NUM_THREADS=str(asked.threads))
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        os.environ.pop(name, None)
    start = time.perf_counter()
    hippocampi = make_hippocampus_datasets(asked.data / "Dataset004_Hippocampus", home / "raw")
    tumours = make_pet_dataset(asked.data / PET, home / "raw")
    for dataset in (MERGED, BOTH, PET):
        stunet(home, "prepare", "-d", number_of(dataset), "--size", SIZE)
    for dataset in (BOTH, PET):
        copy_splits(home, dataset)
    pretrained = train(home, MERGED, f"STUNetTrainer_{SIZE}", "all", asked.pretrain, 250, 0)
    found = []
    asked_for = [
        run
        for run in (*hippocampi, *tumours)
        if run.recipe in asked.recipes and (asked.cases is None or run.cases in asked.cases)
    ]
    for run in asked_for:
        options = run.start(pretrained)
        length = (asked.iterations, ITERATIONS_PER_EPOCH)
        folder = train(home, run.dataset, run.trainer, str(run.fold), *length, run.seed, *options)
        found.append((run, json.loads((folder / f"fold_{run.fold}/validation/summary.json").read_text())))
    write_results(home / "transfer.json", found, asked, time.perf_counter() - start)
    for dataset in (BOTH, PET):
        print_table(dataset, {run.cases for run in asked_for if run.dataset == dataset}, asked.recipes, found)


# Data


def make_hippocampus_datasets(source: Path, raw: Path) -> list[Run]:
    """Link 120 cases with merged labels; and 40 to train on and 40 to validate on, with both labels."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in (source / "labelsTr").glob("*.nii.gz"))
    order = [names[place] for place in np.random.default_rng(0).permutation(len(names))]
    merged, others = order[:PRETRAINING_CASES], order[PRETRAINING_CASES:]
    write_dataset(source, raw / MERGED, merged, {"background": 0, "hippocampus": 1})
    for name in merged:
        label = raw / MERGED / "labelsTr" / f"{name}.nii.gz"
        if not label.exists():
            image = nibabel.load(source / "labelsTr" / label.name)  # type: ignore[attr-defined]
            both = (np.asanyarray(image.dataobj) > 0).astype(np.uint8)  # type: ignore[attr-defined]
            nibabel.save(nibabel.Nifti1Image(both, image.affine), label)  # type: ignore[attr-defined]
    write_dataset(source, raw / BOTH, others, None)
    return write_folds(raw / BOTH, others, HIPPOCAMPI_KEPT_APART, (10, 20, 40))


def make_pet_dataset(source: Path, raw: Path) -> list[Run]:
    """Link 34 tumours, of which 12 are for validation."""
    names = sorted(path.name.removesuffix(".nii.gz") for path in (source / "labelsTr").glob("*.nii.gz"))
    order = [names[place] for place in np.random.default_rng(0).permutation(len(names))]
    write_dataset(source, raw / PET, order, None)
    return write_folds(raw / PET, order, TUMOURS_KEPT_APART, (10, len(order) - TUMOURS_KEPT_APART))


def write_dataset(source: Path, folder: Path, names: list[str], labels: dict[str, int] | None) -> None:
    """Write nnU-Net's raw layout with links to the images, and to the label maps unless `labels` are given."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name in names:
        files = [f"imagesTr/{name}_0000.nii.gz"] + ([] if labels else [f"labelsTr/{name}.nii.gz"])
        for file in files:
            if not (folder / file).exists():
                (folder / file).symlink_to((source / file).resolve())
    description = json.loads((source / "dataset.json").read_text())
    changes = {"numTraining": len(names), **({"labels": labels} if labels else {})}
    write_json(folder / "dataset.json", {**description, **changes})


def write_folds(folder: Path, order: list[str], kept_apart: int, sizes: tuple[int, ...]) -> list[Run]:
    """Fold 0 trains on all training cases; then one fold per seed and size, where larger ones contain smaller ones."""
    splits = folder / "splits_final.json"
    if not splits.exists():
        write_json(splits, [{"train": sorted(order[kept_apart:]), "val": sorted(order[:kept_apart])}])
        for seed in SEEDS:
            write_subsets(folder, sizes, seed=seed)
    folds = [
        (seed, size, 1 + place * len(sizes) + n) for place, seed in enumerate(SEEDS) for n, size in enumerate(sizes)
    ]
    return [Run(folder.name, size, seed, fold, way) for seed, size, fold in folds for way in SYSTEMS]


def copy_splits(home: Path, dataset: str) -> None:
    """Copy the splits to the prepared images, where nnU-Net reads them."""
    splits = (home / "raw" / dataset / "splits_final.json").read_text()
    (home / "preprocessed" / dataset / "splits_final.json").write_text(splits)


# Training


def number_of(dataset: str) -> str:
    """The dataset's number for commands."""
    return str(int(dataset[len("Dataset") :].partition("_")[0]))


def stunet(home: Path, *arguments: str) -> None:
    """Run the command, with its output in a log."""
    with (home / "transfer.log").open("a") as log:
        subprocess.run([STUNET, *arguments], stdout=log, stderr=log, check=True)


def train(
    home: Path, dataset: str, trainer: str, fold: str, iterations: int, per_epoch: int, seed: int, *options: str
) -> Path:
    """Train and validate, unless already done. Returns the model folder."""
    model = home / "results" / dataset / f"{trainer}__STUNetPlans_{SIZE}__3d_fullres"
    done = model / f"fold_{fold}" / "validation" / "summary.json"
    if not done.exists():
        resume = ["--resume"] if (model / f"fold_{fold}" / "stunet_checkpoint").exists() else []
        length = [
            "--epochs",
            str(-(-iterations // per_epoch)),
            "--iterations",
            str(min(per_epoch, iterations)),
            "--batch-size",
            "2",
        ]
        quick = ["--no-augment-mirror", "--picture-every", "0", "--workers", "1", "--seed", str(seed)]
        chosen = ["-d", number_of(dataset), "-f", fold, "--size", SIZE]
        stunet(home, "train", *chosen, *length, *quick, *resume, *options)
    return model


# Results


def write_results(path: Path, found: list[tuple[Run, dict]], asked: argparse.Namespace, seconds: float) -> None:
    """Write the DSC of each label and the mean for each run, with provenance."""
    measurements = [
        {
            "system": SYSTEMS[run.recipe],
            "setting": {"dataset": run.dataset, "cases": run.cases, "seed": run.seed},
            "target": target,
            "metric": "DSC",
            "value": value,
            "paper": None,
            "source": None,
            "cases": {},
        }
        for run, summary in found
        for target, value in {
            "mean": summary["foreground_mean"]["Dice"],
            **{label: scores["Dice"] for label, scores in summary["mean"].items()},
        }.items()
    ]
    provenance = {
        "versions": {name: version(name) for name in ("stunet", "torch", "nnunetv2", "numpy")},
        "machine": {"processor": platform.machine(), "threads": str(asked.threads)},
        "date": time.strftime("%Y-%m-%d"),
        "settings": {"size": SIZE, "iterations": asked.iterations, "pretraining_iterations": asked.pretrain},
        "seconds": round(seconds),
    }
    write_json(
        path, {"experiment": "transfer", "profile": "full", "provenance": provenance, "measurements": measurements}
    )


def print_table(dataset: str, sizes: set[int], recipes: list[str], found: list[tuple[Run, dict]]) -> None:
    """Print the mean DSC over the seeds, and each seed's, by number of cases and recipe."""
    if not sizes:
        return
    print(f"\n{dataset}\n\n| cases | {' | '.join(SYSTEMS[recipe] for recipe in recipes)} |")
    print("|---" * (1 + len(recipes)) + "|")
    for size in sorted(sizes):
        cells = []
        for recipe in recipes:
            values = [
                summary["foreground_mean"]["Dice"]
                for run, summary in found
                if (run.dataset, run.cases, run.recipe) == (dataset, size, recipe)
            ]
            cells.append(f"{statistics.mean(values):.4f} ({', '.join(f'{value:.4f}' for value in values)})")
        print(f"| {size} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
