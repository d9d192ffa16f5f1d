"""Made the files beside it, with the code of commit 95875af, and the answers that this code gave for them.

They are never made again: their point is that an older stunet wrote them. To check how they were made, run in a
checkout of 95875af, with the extra `train` installed: python PATH/OF/make_them.py FOLDER
"""

import json
import os
import shutil
import signal
import sys
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np

DATASET = "Dataset007_Balls"
TRAINING = ("train", "-d", 7, "-f", 0, "--size", "tiny_d2", "--epochs", 3, "--iterations", 2, "--patch", 16, 16, 16)
OPTIONS = ("--device", "cpu", "--precision", "float32", "--workers", 0, "--save-every", 1, "--picture-every", 0)
STOP_AFTER_STEP = 3
"""Of six: in the middle of the second of three epochs."""

UNNEEDED = (
    "**/checkpoint_best.pth",
    "**/checkpoint_latest.pth",
    "**/debug.json",
    "**/progress.png",
    "**/stunet_checkpoint_previous",
    "experiment/table2.*",
    "finished/*/fold_0/stunet_checkpoint",
    "finished/*/dataset_fingerprint.json",
)
"""Files that no code of ours reads, and a checkpoint whose weights are in checkpoint_final.pth, too."""

WINDOW = (16, 16, 16)
STRIDES = ((1, 1, 1), (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1), (1, 1, 1))


def ball(shape: tuple[int, int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball in noise, int16, and its label map, uint8; (Z, Y, X)."""
    random = np.random.default_rng(seed)
    centre = [n / 2 + random.uniform(-2, 2) for n in shape]
    grid = np.indices(shape)
    distance = np.sqrt(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)))
    labels = (distance < 4).astype(np.uint8)
    return (100 * labels + random.normal(0, 30, shape)).astype(np.int16), labels


def write(path: Path, array_ZYX: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array_ZYX.T, np.diag([1.0, 1.0, 1.25, 1.0])), path)


def stunet(*arguments: object) -> int:
    from stunet.cli.main import run

    return run([str(argument) for argument in arguments])


# Model files


def make_models(folder: Path) -> None:
    import torch

    from stunet.networks.registry import build_network
    from stunet.networks.stunet import STUNetConfig, build_stunet
    from stunet.weights.model_file import Architecture, OtherArchitecture, joined, save_model

    torch.manual_seed(0)
    network = build_stunet(STUNetConfig(1, 3, 1, 1, STRIDES))
    torch.nn.init.normal_(network.head.weight, std=3)  # so that all classes appear
    architecture = Architecture("stunet", 1, 3, 1, 1, STRIDES)
    save_model(folder / "stunet.safetensors", network.state_dict(), card("stunet", architecture))

    arguments = {"width": 2, "depth": 1, "max_features": 8, "strides": [[1, 1, 1], [2, 2, 2], [1, 2, 2]]}
    architecture = OtherArchitecture("nnunet", 1, 3, arguments)
    first, second = (build_network("nnunet", 1, 3, **arguments).state_dict() for _ in range(2))
    save_model(folder / "nnunet.safetensors", first, card("nnunet", architecture))
    save_model(folder / "float16.safetensors", first, card("float16", architecture), "float16")
    save_model(
        folder / "two_networks.safetensors", joined([first, second]), card("two_networks", architecture, networks=2)
    )


def card(name: str, architecture: object, **more: object) -> object:
    from stunet.imaging.plan import ChannelNormalization, PreprocessingPlan

    from stunet.weights.model_file import ModelCard

    plan = PreprocessingPlan(
        convention="nnunet_v2",
        spacing=(1.25, 1.0, 1.0),
        patch_size=WINDOW,
        normalization=(ChannelNormalization("zscore"),),
    )
    return ModelCard(
        name=name,
        architecture=architecture,
        preprocessing=plan.to_dict(),
        labels=("background", "liver", "spleen"),
        channels=("CT",),
        mirror_axes=(0, 2),
        training={"epochs": 0, "trainer": "none"},
        licence="CC0-1.0",
        source="random numbers",
        metrics={"dice": 0.5},
        citation="none",
        **more,
    )


# A training, stopped and finished


def make_training(folder: Path) -> None:
    """`unfinished`: what SIGTERM left. `finished`: the same after --resume."""
    unfinished = folder / "unfinished"
    for number in range(3):
        image, labels = ball((18, 18, 18), seed=number)
        write(unfinished / f"raw/{DATASET}/imagesTr/ball_{number}_0000.nii.gz", image)
        write(unfinished / f"raw/{DATASET}/labelsTr/ball_{number}.nii.gz", labels)
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    (unfinished / f"raw/{DATASET}/dataset.json").write_text(json.dumps(description))
    with home(unfinished):
        assert stunet("prepare", "-d", 7, "--size", "tiny_d2", "--processes", 1) == 0
    prepared = unfinished / f"preprocessed/{DATASET}"
    make_plan_tiny(prepared / "STUNetPlans_tiny_d2.json")
    (prepared / "splits_final.json").write_text(json.dumps([{"train": ["ball_0", "ball_1"], "val": ["ball_2"]}]))
    with home(unfinished), stopped_after(STOP_AFTER_STEP):
        assert stunet(*TRAINING, *OPTIONS) == 128 + signal.SIGTERM
    resumed = folder / "resumed"
    shutil.copytree(unfinished, resumed)
    with home(resumed):
        assert stunet(*TRAINING, *OPTIONS, "--resume") == 0
    (model_folder,) = (resumed / f"results/{DATASET}").iterdir()
    shutil.move(model_folder, folder / "finished" / model_folder.name)
    shutil.rmtree(resumed)
    shutil.rmtree(unfinished / "raw")


def make_plan_tiny(path: Path) -> None:
    """One feature in the first stage, so that the files of this folder stay small."""
    plans = json.loads(path.read_text())
    for configuration in plans["configurations"].values():
        if "architecture" in configuration:
            configuration["architecture"]["arch_kwargs"] |= {"width": 1, "depth": 1}
    path.write_text(json.dumps(plans, indent=2))


@contextmanager
def home(folder: Path):
    variables = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer")
    for variable in variables:
        os.environ.pop(variable, None)
    os.environ["STUNET_HOME"] = str(folder)
    yield
    for variable in variables:
        os.environ.pop(variable, None)


@contextmanager
def stopped_after(step: int):
    """SIGTERM comes after a step of a training."""
    import stunet.cli.train as door

    own = door.training_progress

    @contextmanager
    def told():
        yield lambda report: os.kill(os.getpid(), signal.SIGTERM) if report.step == step else None

    door.training_progress = told
    yield
    door.training_progress = own


# What the old code says of them


def make_answers(folder: Path, scan: Path) -> None:
    """Logits of each network for one window, and labels of the scan."""
    import torch

    from stunet import Predictor, load_model
    from stunet.inference.predictor import InferenceConfig

    exact = InferenceConfig(backend="torch", precision="float32")
    window_BCZYX = torch.linspace(-200, 200, 16**3).sin().reshape(1, 1, 16, 16, 16)
    (model_folder,) = (folder / "finished").iterdir()
    sources = {name: folder / f"{name}.safetensors" for name in ("stunet", "nnunet", "float16", "two_networks")}
    answers: dict[str, np.ndarray] = {}
    for name, source in {**sources, "finished": model_folder}.items():
        model = load_model(source)
        with torch.no_grad():
            logits_NKZYX = torch.cat([network(window_BCZYX) for network in model.networks])
        answers[f"{name}/logits_NKZYX"] = logits_NKZYX[:, :, ::3, ::3, ::3].numpy()
        answers[f"{name}/labels_ZYX"] = Predictor(model, exact).predict(scan).labels
    np.savez_compressed(folder / "answers.npz", **answers)


def main(folder: Path) -> None:
    import torch

    torch.set_num_threads(1)
    os.environ["nnUNet_def_n_proc"] = "1"
    image, _ = ball((18, 20, 22), seed=9)
    write(folder / "scan.nii.gz", image)
    make_training(folder)
    make_models(folder)
    assert stunet("experiment", "run", "table2", "-o", folder / "experiment") == 0
    make_answers(folder, folder / "scan.nii.gz")
    for path in [path for pattern in UNNEEDED for path in folder.glob(pattern)]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (*folder.rglob("*.txt"), *folder.rglob("*.json")):
        path.write_text(path.read_text().replace(str(folder), "/home/me"))


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
