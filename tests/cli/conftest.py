"""A tiny model with random weights, and commands run in this process."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet.cli.main import run
from stunet.weights.model_file import save_model
from tests.inference.samples import card, plan, tiny_network
from tests.phantoms import smooth_scan


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, windows of 8 x 16 x 16 voxels of 1 mm."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    network = tiny_network(num_classes=3)
    save_model(path, network.state_dict(), card(network, plan()))
    return path


@pytest.fixture
def stunet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., int]:
    """Runs a command and returns its exit code, as the shell would see it."""
    monkeypatch.setenv("STUNET_HOME", str(tmp_path / "stunet_home"))

    def command(*arguments: object) -> int:
        try:
            return run([str(argument) for argument in arguments])
        except SystemExit as end:
            return int(end.code or 0)

    return command


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A phantom of 20 x 18 x 12 voxels."""
    return write_scan(tmp_path / "scan.nii.gz")


def write_scan(path: Path, seed: int = 0) -> Path:
    """A phantom in a file of its own."""
    path.parent.mkdir(exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(smooth_scan((20, 18, 12), seed), np.diag([1.0, 1.5, 2.0, 1.0])), path)
    return path
