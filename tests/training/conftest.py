"""A miniature of the hippocampus dataset, prepared once by stunet itself."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

pytest.importorskip("nnunetv2")

from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.run.run_training import get_trainer_from_args

from stunet.training.environment import set_nnunet_environment
from stunet.training.planners import STUNetPlanner
from stunet.training.prepare import prepare
from tests.training.torchvision_operators import declare_if_missing

declare_if_missing()

DATASET = "Dataset004_Hippocampus"
CASES = 10
VARIABLES = ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results", "nnUNet_extTrainer", "nnUNet_n_proc_DA")


@contextmanager
def environment(home: Path) -> Iterator[None]:
    """stunet and nnU-Net keep everything under `home`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUNET_HOME", str(home))
        for variable in VARIABLES:
            patch.setenv(variable, "")  # so that the patch knows it, and takes back what stunet sets
            patch.delenv(variable)
        set_nnunet_environment()
        yield


def make_raw_dataset(source: Path, raw: Path, cases: int = CASES, channels: tuple[str, ...] = ("MRI",)) -> None:
    """Links to the first cases of a real dataset, in nnU-Net's raw layout; all channels show the same image."""
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    for case in json.loads((source / "mini.json").read_text())["train"][:cases]:
        (raw / f"labelsTr/{case}.nii.gz").symlink_to(source / f"labelsTr/{case}.nii.gz")
        for channel in range(len(channels)):
            image = raw / f"imagesTr/{case}_{channel:04d}.nii.gz"
            image.symlink_to(source / f"imagesTr/{case}_0000.nii.gz")
    description = json.loads((source / "dataset.json").read_text())
    description |= {"numTraining": cases, "channel_names": {str(n): name for n, name in enumerate(channels)}}
    (raw / "dataset.json").write_text(json.dumps(description))


@pytest.fixture(scope="session")
def prepared_home(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared for `tiny`; beside it the plans for `small`, and nnU-Net's own."""
    home = tmp_path_factory.mktemp("home")
    make_raw_dataset(shared_data / DATASET, home / "raw" / DATASET)
    with environment(home):
        prepare("4", "tiny", processes=2)
        STUNetPlanner(4, size="small").plan_experiment()
        ExperimentPlanner(4).plan_experiment()
    images = home / "preprocessed" / DATASET
    (images / "nnUNetPlans_3d_fullres").symlink_to(images / "STUNetPlans_3d_fullres")  # made in the same way
    return home


@pytest.fixture(scope="session")
def two_channel_home(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five cases with two channels and three classes, prepared for `small` and planned for `tiny`."""
    home = tmp_path_factory.mktemp("two_channels")
    make_raw_dataset(shared_data / DATASET, home / "raw" / DATASET, cases=5, channels=("MRI", "CT"))
    with environment(home):
        prepare("4", "small", processes=1)
        STUNetPlanner(4, size="tiny").plan_experiment()
    return home


@pytest.fixture
def home(prepared_home: Path) -> Iterator[Path]:
    """`prepared_home`, where stunet and nnU-Net look."""
    with environment(prepared_home):
        yield prepared_home


@pytest.fixture
def build(home: Path) -> Callable:
    """Makes a trainer as `nnUNetv2_train` does, given its name and the plans' name."""
    return lambda trainer, plans: get_trainer_from_args(
        "4", "3d_fullres", 0, trainer, plans, device=torch.device("cpu")
    )
