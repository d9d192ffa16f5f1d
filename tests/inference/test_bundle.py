"""A bundle that MONAI runs gives the labels of `stunet predict`."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.inference.bundle import export_bundle
from stunet.inference.predictor import Predictor
from stunet.plans.labels import Region
from stunet.plans.preprocessing import ChannelNormalization
from stunet.weights.model import Model, load_model
from tests.conftest import REPOSITORY
from tests.inference.samples import EXACT, tiny_model
from tests.phantoms import smooth_scan

pytest.importorskip("monai")
pytest.importorskip("ignite")

DEMO = REPOSITORY / "src/stunet/cli/demo_scans"


def write(path: Path, seed: int = 0, spacing: tuple[float, ...] = (1.0, 1.5, 2.0)) -> Path:
    """A scan of 26 x 20 x 18 voxels whose axes are not in the patient's order, with zeros around it."""
    path.parent.mkdir(exist_ok=True)
    array = np.pad(smooth_scan((14, 16, 22), seed), 2)
    affine = np.array([[0, -spacing[1], 0, 5], [spacing[0], 0, 0, -7], [0, 0, spacing[2], 3], [0, 0, 0, 1.0]])
    nibabel.save(nibabel.Nifti1Image(array.T, affine), path)
    return path


def run(bundle: Path, scans: Path, output: Path) -> None:
    """As the command line does, in this process."""
    from monai.bundle import run

    run(
        config_file=str(bundle / "configs/inference.json"),
        meta_file=str(bundle / "configs/metadata.json"),
        bundle_root=str(bundle),
        dataset_dir=str(scans),
        output_dir=str(output),
    )


CT = ChannelNormalization("ct", mean=10.0, std=40.0, percentile_00_5=-60.0, percentile_99_5=90.0)

MODELS = {
    "as it is": {},
    "oriented and transposed": {"orientation": "RAS", "transpose_forward": (1, 2, 0)},
    "nnU-Net v1, CT": {"convention": "nnunet_v1", "normalization": (CT,), "spacing": (1.7, 1.2, 0.9)},
    "thick slices of the network": {"spacing": (5.0, 1.3, 1.2)},
    "two channels, two folds": {"input_channels": 2, "folds": 2, "spacing": (1.5, 1.5, 1.5)},
    "from 0 to 1": {"normalization": (ChannelNormalization("rescale_to_0_1"),)},
}


@pytest.fixture(autouse=True)
def path(monkeypatch):
    """A bundle puts itself on the path; take it off again."""
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.mark.parametrize("kind", MODELS)
def test_labels_are_those_of_predict(kind, tmp_path):
    model = tiny_model(num_classes=4, **MODELS[kind])
    channels = len(model.card.channels)
    scans = [write(tmp_path / f"scans/case_{channel:04d}.nii.gz", channel) for channel in range(channels)]
    exported = export_bundle(model, tmp_path / "bundle")
    assert exported.difference < 1e-5 and all(path.is_file() for path in (*exported.files, exported.card))
    run(tmp_path / "bundle", tmp_path / "scans", tmp_path / "out")
    (written,) = (tmp_path / "out").iterdir()
    labels = nibabel.load(written)
    expected = Predictor(model, EXACT).predict(scans if channels > 1 else scans[0]).labels
    assert len(np.unique(expected)) > 2
    assert np.array_equal(np.asarray(labels.dataobj).T, expected)
    assert np.allclose(labels.affine, nibabel.load(scans[0]).affine, atol=1e-4)


def test_thick_slices_of_the_scan(tmp_path):
    model = tiny_model(num_classes=4)
    scan = write(tmp_path / "scans/thick.nii.gz", spacing=(0.9, 1.1, 4.5))
    export_bundle(model, tmp_path / "bundle")
    run(tmp_path / "bundle", tmp_path / "scans", tmp_path / "out")
    found = np.asarray(nibabel.load(tmp_path / "out/thick_labels.nii.gz").dataobj).T
    assert np.array_equal(found, Predictor(model, EXACT).predict(scan).labels)


def test_the_bundled_model_by_the_command_line(tmp_path):
    """The command of docs/README.md, without stunet on the path."""
    export_bundle(load_model("hippocampus"), tmp_path / "bundle")
    (tmp_path / "scans").mkdir()
    scan = DEMO / "hippocampus_222.nii.gz"
    (tmp_path / "scans" / scan.name).symlink_to(scan)
    command = ["-m", "monai.bundle", "run", "--config_file", "configs/inference.json", "--dataset_dir", "../scans"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, *command],
        cwd=tmp_path / "bundle",
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = np.asarray(nibabel.load(tmp_path / "bundle/eval/hippocampus_222_labels.nii.gz").dataobj).T
    expected = Predictor("hippocampus", EXACT).predict(scan).labels
    assert np.array_equal(found, expected) and len(np.unique(expected)) == 3


def test_what_the_folder_holds(tmp_path):
    model = tiny_model(num_classes=3)
    export_bundle(model, tmp_path / "new/bundle")
    bundle = tmp_path / "new/bundle"
    assert {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()} == {
        *("LICENSE", "configs/metadata.json", "configs/inference.json", "docs/README.md", "models/model.ts"),
        *("scripts/__init__.py", "scripts/stunet_steps.py"),
    }
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["bundle"]
    told = json.loads((bundle / "configs/metadata.json").read_text())
    assert told["network_data_format"]["outputs"]["pred"]["channel_def"] == {
        "0": "background",
        "1": "class_1",
        "2": "class_2",
    }
    assert "import stunet" not in (bundle / "scripts/stunet_steps.py").read_text()
    for path in (bundle / "configs").iterdir():
        assert str(tmp_path) not in path.read_text()
    two = torch.randn(2, 1, *reversed(model.plan.patch_size))
    network = torch.jit.load(str(bundle / "models/model.ts"))
    with torch.inference_mode():
        assert torch.allclose(network(two)[1:], network(two[1:]), atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"normalization": (ChannelNormalization("zscore", use_mask=True),)}, "inside a mask"),
        ({"input_channels": 2, "normalization": (CT, ChannelNormalization("zscore"))}, "in different ways"),
        ({"logits_order_z": 1}, "not interpolated linearly"),
    ],
)
def test_models_that_a_bundle_cannot_hold(changes, reason, tmp_path):
    with pytest.raises(UserError, match=f"cannot become a MONAI bundle, because .*{reason}"):
        export_bundle(tiny_model(num_classes=3, **changes), tmp_path / "bundle")
    assert not list(tmp_path.iterdir())


def test_overlapping_structures(tmp_path):
    model = tiny_model(num_classes=3)
    regions = tuple(Region(label, (label,)) for label in (1, 2, 3))
    overlapping = Model(model.networks, replace(model.card, regions=regions), "sample")
    with pytest.raises(UserError, match="because its structures overlap"):
        export_bundle(overlapping, tmp_path / "bundle")


def test_a_folder_with_something_in_it(tmp_path):
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UserError, match="a bundle needs a new or empty folder"):
        export_bundle(tiny_model(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_weights_that_are_damaged(tmp_path):
    model = tiny_model(num_classes=3)
    model.networks[0].head.weight.data[0] = float("nan")
    with pytest.raises(UserError, match="results differ from torch's"):
        export_bundle(model, tmp_path / "bundle")
    assert not list(tmp_path.iterdir())
