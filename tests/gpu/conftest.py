"""The device, and a small dataset that needs no download."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from stunet.inference.backends.torch_backend import torch_device
from tests.training.conftest import environment

DATASET = "Dataset007_Balls"
CASES = 6


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All tests of this folder are selected by `-m gpu`."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.gpu)


@pytest.fixture(scope="session")
def device() -> torch.device:
    """That of STUNET_TEST_DEVICE; by default a GPU if there is one, else the CPU."""
    device = torch_device(os.environ.get("STUNET_TEST_DEVICE", "auto"))
    print(f"on {torch.cuda.get_device_name(device) if device.type == 'cuda' else device}")
    return device


@pytest.fixture(scope="session")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A STUNET_HOME where balls in noise are prepared for `tiny`."""
    pytest.importorskip("nnunetv2")
    from stunet.training.prepare import prepare

    home = tmp_path_factory.mktemp("home")
    raw = home / "raw" / DATASET
    for folder in ("imagesTr", "labelsTr"):
        (raw / folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    places = np.stack(np.meshgrid(*[np.arange(40)] * 3, indexing="ij"))
    for case in range(CASES):
        centre, radius = random.uniform(14, 26, (3, 1, 1, 1)), random.uniform(6, 10)
        labels = (np.linalg.norm(places - centre, axis=0) < radius).astype(np.uint8)
        image = (random.normal(0, 20, labels.shape) + 100 * labels).astype(np.float32)
        for folder, name, array in (("imagesTr", f"ball_{case}_0000", image), ("labelsTr", f"ball_{case}", labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), raw / folder / f"{name}.nii.gz")
    description = {"channel_names": {"0": "MR"}, "labels": {"background": 0, "ball": 1}, "numTraining": CASES}
    (raw / "dataset.json").write_text(json.dumps(description | {"file_ending": ".nii.gz"}))
    with environment(home):
        prepare("7", "tiny", processes=1)
    return home


@pytest.fixture
def home(balls: Path, tmp_path: Path) -> Iterator[Path]:
    """`balls`, where stunet and nnU-Net look, with results of this test's own."""
    with environment(balls), pytest.MonkeyPatch.context() as patch:
        patch.setenv("nnUNet_results", str(tmp_path))
        yield tmp_path
