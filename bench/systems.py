"""Train every system that the paper compares for some iterations on the same cases, and predict one case.

    python bench/systems.py --data shared/data/Dataset004_Hippocampus [--networks unetr_tiny ...] [--iterations 20]

One row per network, measured in its own process: nnU-Net's loss on the same validation batch before and after the
iterations (in evaluation mode, highest resolution only), median seconds per iteration, the process's peak memory, and
the Dice of the hippocampus (all parts as one) in a case outside the training, predicted from the resulting model
folder. Cases are those of the dataset's mini.json. Patches are the plan's, or the next larger ones that a network
accepts. Optimiser and learning rates are each system's own.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

NETWORKS = (
    "tiny",
    "tiny_convolution",
    "tiny_transposed",
    "tiny_trilinear",
    "tiny_d2",
    "nnunet_tiny",
    "nnunet_tiny_w2",
    "nnunet_tiny_d2",
    "unet3d_tiny",
    "unetr_tiny",
    "swin_unetr_tiny",
    "nnformer_tiny",
)
BATCH_SIZE = 2


@dataclass(frozen=True)
class Row:
    """The measurements of one network's process."""

    network: str
    patch: list[int]
    parameters: int
    loss_before: float
    loss_after: float
    seconds: float
    memory: int
    dice: float


def main() -> None:
    """Prepare once, run a process per network, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="a dataset in nnU-Net's raw layout, with a mini.json")
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--iterations", type=int, default=20)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.home is not None:
        print(json.dumps(asdict(measure(asked.networks[0], asked))))
        return
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
            os.environ.pop(variable, None)
        os.environ["STUNET_HOME"] = folder
        link(asked.data, Path(folder) / "raw" / asked.data.name)
        plan(asked)
        print(HEADING)
        for network in asked.networks:
            print(line(row_of(network, Path(folder), asked)), flush=True)


def link(source: Path, raw: Path) -> None:
    """Link the training cases of mini.json."""
    cases = json.loads((source / "mini.json").read_text())["train"]
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for case in cases:
        (raw / "imagesTr" / f"{case}_0000.nii.gz").symlink_to((source / "imagesTr" / f"{case}_0000.nii.gz").resolve())
        (raw / "labelsTr" / f"{case}.nii.gz").symlink_to((source / "labelsTr" / f"{case}.nii.gz").resolve())
    description = json.loads((source / "dataset.json").read_text())
    (raw / "dataset.json").write_text(json.dumps({**description, "numTraining": len(cases)}))


def plan(asked: argparse.Namespace) -> None:
    """Plan for all networks, which share the images."""
    from stunet.training.prepare import prepare

    for network in asked.networks:
        prepare(number_of(asked.data), network, processes=1)


def number_of(data: Path) -> str:
    """The number of a dataset: "4" for Dataset004_Hippocampus."""
    return str(int(data.name[7:10]))


def row_of(network: str, home: Path, asked: argparse.Namespace) -> Row:
    """Measure a network in its own process."""
    command = [sys.executable, __file__, "--data", str(asked.data), "--home", str(home), "--networks", network]
    command += ["--iterations", str(asked.iterations), "--threads", str(asked.threads)]
    environment = {**os.environ, "nnUNet_n_proc_DA": "0"}  # load batches in the training process
    output = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout
    return Row(**json.loads(output.splitlines()[-1]))


def measure(network: str, asked: argparse.Namespace) -> Row:
    """Train and predict."""
    from stunet.folders import nnunet_folders
    from stunet.training.run import build_trainer
    from stunet.training.settings import (
        AugmentationSettings,
        HardwareSettings,
        LoggingSettings,
        ScheduleSettings,
        TaskSettings,
        TrainingSettings,
    )

    torch.set_num_threads(asked.threads)
    settings = TrainingSettings(
        TaskSettings(number_of(asked.data), "all", network),
        schedule=ScheduleSettings(epochs=1, iterations_per_epoch=asked.iterations, batch_size=BATCH_SIZE),
        augmentation=AugmentationSettings(mirror=False),
        hardware=HardwareSettings(device="cpu", precision="float32"),
        logging=LoggingSettings(picture_every=0),
    )
    torch.manual_seed(settings.task.seed)
    trainer = build_trainer(settings, nnunet_folders())
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_val)
    before = loss_of(trainer, batch)
    trainer.network.train()
    seconds = []
    for _ in range(asked.iterations):
        start = time.perf_counter()
        trainer.train_step(next(trainer.dataloader_train))
        seconds.append(time.perf_counter() - start)
    memory = peak_bytes()
    after = loss_of(trainer, batch)
    trainer.save_checkpoint(str(Path(trainer.output_folder) / "checkpoint_final.pth"))
    parameters = sum(parameter.numel() for parameter in trainer.bare_network.parameters())
    patch = [int(n) for n in trainer.configuration_manager.patch_size]
    dice = dice_of_unseen_case(Path(trainer.output_folder).parent, asked.data)
    return Row(network, patch, parameters, before, after, statistics.median(seconds), memory, dice)


def peak_bytes() -> int:
    """The peak memory of this process on Linux. `resource` would include that of its parent."""
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


def loss_of(trainer: Any, batch: dict[str, Any]) -> float:
    """The loss of the highest resolution only, which all networks have."""
    trainer.network.eval()
    target = batch["target"][0] if isinstance(batch["target"], list) else batch["target"]
    loss = trainer.loss.loss if trainer.enable_deep_supervision else trainer.loss
    trainer.set_deep_supervision_enabled(False)
    with torch.no_grad():
        value = float(loss(trainer.network(batch["data"]), target))
    trainer.set_deep_supervision_enabled(trainer.enable_deep_supervision)
    return value


def dice_of_unseen_case(model: Path, data: Path) -> float:
    """Dice of foreground against background, by `Predictor`, in the first case of mini.json not used in training."""
    from stunet.imaging.formats.registry import read_labels
    from stunet.inference.predictor import InferenceConfig, Predictor

    case = json.loads((data / "mini.json").read_text())["val"][0]
    predictor = Predictor(model, InferenceConfig(precision="float32"))
    found = np.asarray(predictor.predict(data / "imagesTr" / f"{case}_0000.nii.gz").labels) > 0
    reference = np.asarray(read_labels(data / "labelsTr" / f"{case}.nii.gz").array).reshape(found.shape) > 0
    return 2 * float((found & reference).sum()) / max(1, int(found.sum()) + int(reference.sum()))


HEADING = """| network | patch | parameters, M | loss before | after | s an iteration | peak memory, MB | Dice |
|---|---|---|---|---|---|---|---|"""


def line(row: Row) -> str:
    """One row of the table."""
    patch = " x ".join(map(str, row.patch))
    numbers = f"{row.parameters / 1e6:.2f} | {row.loss_before:.3f} | {row.loss_after:.3f} | {row.seconds:.2f}"
    return f"| `{row.network}` | {patch} | {numbers} | {row.memory / 1e6:.0f} | {row.dice:.2f} |"


if __name__ == "__main__":
    main()
