"""Compare our training with nnU-Net's own trainer on the same network, plan and data, in turns.

python bench/training.py --data shared/data/Dataset004_Hippocampus [--size small] [--rounds 5] [--steps 4]
python bench/training.py --synthetic --device cuda --size small base large [--step-only]

Three values for each: seconds of a training step on a batch in memory (as loaded: ours may augment on the device),
seconds for one process to load and augment a patch, and seconds per iteration of the whole loop with the default number
of processes. With --synthetic, the data are random blocks of 104 classes at 1.5 mm, in patches of 128^3 and batches of
two, as in the paper.
"""

import argparse
import copy
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch

from stunet.errors import UserError

PATCH = (128, 128, 128)
CLASSES = 104
SYNTHETIC = "Dataset999_Blocks"
FOREGROUND_BLOCKS = 200


def main() -> None:
    """Prepare, measure, and print a table per size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="a dataset in nnU-Net's raw layout")
    parser.add_argument("--synthetic", action="store_true", help="random blocks instead")
    parser.add_argument("--size", nargs="+", default=["small"])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--augmentation", default="auto", choices=["auto", "device", "nnunet"])
    parser.add_argument("--rounds", type=int, default=5, help="turns that each trainer takes; the medians are printed")
    parser.add_argument("--steps", type=int, default=4, help="steps, or patches, in a turn")
    parser.add_argument("--cases", type=int, default=10)
    parser.add_argument("--edge", type=int, default=PATCH[0], help="edge of the patch in voxels, with --synthetic")
    parser.add_argument("--step-only", action="store_true", help="skip reading and the whole loop")
    asked = parser.parse_args()
    if (asked.data is None) == (not asked.synthetic):
        raise UserError("Give --data FOLDER or --synthetic.")
    with tempfile.TemporaryDirectory() as home:
        os.environ["STUNET_HOME"] = home
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            os.environ.pop(variable, None)
        dataset = make_blocks(Path(home)) if asked.synthetic else link(asked.data, Path(home), asked.cases)
        for size in asked.size:
            measure(dataset, size, asked)


# Data


def link(source: Path, home: Path, cases: int) -> str:
    """Link the first cases of a dataset. Returns its name."""
    raw = home / "raw" / source.name
    images = sorted((source / "imagesTr").glob("*_0000.nii.gz"))[:cases]
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for image in images:
        label = source / "labelsTr" / image.name.replace("_0000", "")
        (raw / "imagesTr" / image.name).symlink_to(image.resolve())
        (raw / "labelsTr" / label.name).symlink_to(label.resolve())
    description = json.loads((source / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, "numTraining": len(images)}))
    return source.name


def make_blocks(home: Path, cases: int = 6, edge: int = 176) -> str:
    """Make CT-like noise with blocks of all classes, different in each case."""
    raw, random = home / "raw" / SYNTHETIC, np.random.default_rng(0)
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    affine = np.diag([1.5, 1.5, 1.5, 1.0])
    for case in range(cases):
        labels = np.zeros((edge,) * 3, np.uint8)
        for block in range(FOREGROUND_BLOCKS):
            corner, size = random.integers(0, edge - 40, 3), random.integers(8, 40, 3)
            where = tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))
            labels[where] = block % CLASSES + 1
        image = (random.normal(0, 50, labels.shape) + 5.0 * labels).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(image, affine), raw / "imagesTr" / f"blocks_{case}_0000.nii.gz")
        nibabel.save(nibabel.Nifti1Image(labels, affine), raw / "labelsTr" / f"blocks_{case}.nii.gz")
    names = {"background": 0, **{f"class_{number}": number for number in range(1, CLASSES + 1)}}
    description = {"channel_names": {"0": "CT"}, "labels": names, "numTraining": cases, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps(description))
    return SYNTHETIC


# Trainers


def trainers(dataset: str, size: str, asked: argparse.Namespace) -> dict[str, Any]:
    """nnU-Net's trainer and ours, initialised from one plan with the same weights."""
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    from stunet.folders import nnunet_folders
    from stunet.training.planners import plans_name
    from stunet.training.prepare import prepare
    from stunet.training.run import build_trainer
    from stunet.training.settings import (
        AugmentationSettings,
        HardwareSettings,
        LoggingSettings,
        ScheduleSettings,
        TaskSettings,
        TrainingSettings,
    )

    prepare(dataset, size)
    patch = (asked.edge,) * 3 if asked.synthetic else None
    settings = TrainingSettings(
        TaskSettings(dataset, "all", size),
        schedule=ScheduleSettings(patch=patch, batch_size=2),
        augmentation=AugmentationSettings(paper_transforms=False, augmentation=asked.augmentation),
        hardware=HardwareSettings(device=asked.device),
        logging=LoggingSettings(picture_every=0),
    )
    ours = build_trainer(settings, nnunet_folders())
    folder = nnunet_folders().preprocessed / dataset
    plans = json.loads((folder / f"{plans_name(size)}.json").read_text())
    plans["configurations"]["3d_fullres"].update(batch_size=2, **({"patch_size": list(patch)} if patch else {}))
    plans["continue_training"] = False
    description = json.loads((folder / "dataset.json").read_text())
    theirs = nnUNetTrainer(plans, "3d_fullres", "all", description, torch.device(asked.device))  # type: ignore[arg-type]
    theirs.weight_decay = ours.weight_decay
    theirs.initialize()
    bare = getattr(theirs.network, "_orig_mod", theirs.network)
    bare.load_state_dict(ours.bare_network.state_dict())
    return {"nnU-Net": theirs, "stunet": ours}


# Measuring


def in_turns(tasks: Mapping[str, Callable[..., float]], rounds: int) -> dict[str, float]:
    """The median of each task's results. Tasks take turns, after one uncounted turn."""
    found: dict[str, list[float]] = {name: [] for name in tasks}
    for turn in range(rounds + 1):
        for name, task in tasks.items():
            seconds = task()
            if turn:
                found[name].append(seconds)
    return {name: statistics.median(values) for name, values in found.items()}


def seconds_of(task: Callable[[], Any], times: int, device: str) -> float:
    """Seconds per call over `times` calls, including the device's work."""
    start = time.perf_counter()
    for _ in range(times):
        task()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - start) / times


def loaders(pair: dict[str, Any], processes: int) -> dict[str, Iterator[dict]]:
    """The training batches of both trainers, loaded by this many processes."""
    os.environ["nnUNet_n_proc_DA"] = str(processes)
    return {name: trainer.get_dataloaders()[0] for name, trainer in pair.items()}


def measure(dataset: str, size: str, asked: argparse.Namespace) -> None:
    """Measure one size and print its table."""
    pair = trainers(dataset, size, asked)
    ours = pair["stunet"]
    for trainer in pair.values():
        trainer.on_train_epoch_start()
    here = loaders(pair, 0)
    batches = {name: copy.deepcopy(next(loader)) for name, loader in here.items()}
    steps = {
        name: (lambda name=name: seconds_of(lambda: pair[name].train_step(batches[name]), asked.steps, asked.device))
        for name in pair
    }
    rows = [("training step", in_turns(steps, asked.rounds))]
    if not asked.step_only:
        size_of_batch = ours.batch_size
        reading = {
            name: (lambda name=name: seconds_of(lambda: next(here[name]), 5 * asked.steps, "cpu") / size_of_batch)
            for name in pair
        }
        title = "reading" if ours.augments_on_device else "reading and augmenting"
        rows.append((f"{title} a patch, one process", in_turns(reading, asked.rounds)))
        rows.append(("iteration of the whole loop", whole_loop(pair, asked)))
    print_table(dataset, size, ours, rows)


def whole_loop(pair: dict[str, Any], asked: argparse.Namespace) -> dict[str, float]:
    """Load in processes and train, one trainer at a time, because their processes would compete."""
    found: dict[str, list[float]] = {name: [] for name in pair}
    processes = min(12, os.cpu_count() or 1)
    for turn in range(asked.rounds):
        for name in sorted(pair, reverse=bool(turn % 2)):
            loader = loaders({name: pair[name]}, processes)[name]
            for _ in range(2 * processes):  # consume the prefetched batches
                pair[name].train_step(next(loader))
            task = lambda name=name, loader=loader: pair[name].train_step(next(loader))  # noqa: E731
            found[name].append(seconds_of(task, 4 * asked.steps, asked.device))
            getattr(loader, "_finish", lambda: None)()
            del loader
    return {name: statistics.median(values) for name, values in found.items()}


def print_table(dataset: str, size: str, ours: Any, rows: list[tuple[str, dict[str, float]]]) -> None:
    """Print seconds, ratios, and the fraction of the device's peak that our step reaches."""
    device = torch.cuda.get_device_name() if ours.device.type == "cuda" else f"{torch.get_num_threads()} threads"
    patch = " x ".join(str(n) for n in ours.configuration_manager.patch_size)
    where = "the device" if ours.augments_on_device else "the reading processes"
    print(f"\n{dataset}, {size}, patch {patch}, batch {ours.configuration_manager.batch_size}, {device}")
    print(f"ours: {ours.precision}, augmentation on {where}\n")
    print("| | nnU-Net, s | stunet, s | ratio |")
    print("|---|---|---|---|")
    for title, seconds in rows:
        theirs, mine = seconds["nnU-Net"], seconds["stunet"]
        print(f"| {title} | {theirs:.4f} | {mine:.4f} | {theirs / mine:.2f} |")
    tflops = ours.speed.tflop / rows[0][1]["stunet"]
    print(f"\n{tflops:.3g} TFLOP/s" + (f", {tflops / ours.speed.peak:.0%} of the peak" if ours.speed.peak else ""))


if __name__ == "__main__":
    main()
