"""The example that runs an exported model without stunet gives stunet's labels."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet.inference.export import export_model
from stunet.inference.predictor import Predictor
from stunet.plans.labels import Region
from stunet.plans.preprocessing import ChannelNormalization
from tests.inference.samples import EXACT, tiny_model
from tests.phantoms import smooth_scan

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "run_exported.py"

PLANS = {
    "as published": {"convention": "nnunet_v1", "spacing": (1.5, 1.5, 1.5), "orientation": "RAS"},
    "ct": {
        "spacing": (1.0, 1.2, 1.4),
        "normalization": (ChannelNormalization("ct", 30.0, 250.0, -700.0, 800.0),),
        "transpose_forward": (2, 0, 1),
    },
}

REGIONS = (Region(2, (1, 2)), Region(3, (3,)), Region(1, (1,)))


@pytest.fixture
def scan(tmp_path):
    """A scan stored as (left, posterior, superior), with a border of zeros, and smaller than a window along x."""
    image = np.pad(smooth_scan((10, 28, 20)), ((0, 0), (2, 0), (0, 3)))
    affine = np.diag([-1.1, -1.3, 1.9, 1.0])
    affine[:3, 3] = (40.0, 30.0, -20.0)
    path = tmp_path / "scan.nii.gz"
    nibabel.save(nibabel.Nifti1Image(image, affine), path)
    return path


@pytest.mark.parametrize("regions", [(), REGIONS], ids=["classes", "regions"])
@pytest.mark.parametrize("name", PLANS)
def test_labels_are_those_of_the_predictor(tmp_path, scan, name, regions):
    model = tiny_model(num_classes=len(regions) or 4, **PLANS[name])
    model = replace(model, card=replace(model.card, regions=regions))
    model_file = export_model(model, "onnx", tmp_path / "model.onnx").files[0]
    output = tmp_path / "labels.nii.gz"
    done = subprocess.run([sys.executable, EXAMPLE, model_file, scan, output], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    written = nibabel.load(output)
    expected = Predictor(model, EXACT).predict(scan).labels
    assert np.array_equal(written.affine, nibabel.load(scan).affine)
    labels = np.asarray(written.dataobj).T
    assert len(np.unique(expected)) == 4
    assert (labels == expected).mean() >= 0.999


@pytest.mark.parametrize("changes", [{}, {"spacing": (4.0, 1.0, 1.0)}, {"force_separate_z": True}], ids=str)
def test_thick_slices_are_refused(tmp_path, scan, changes):
    slices_mm = 1.0 if changes else 4.0
    image = nibabel.Nifti1Image(np.asarray(nibabel.load(scan).dataobj), np.diag([1.0, 1.0, slices_mm, 1.0]))
    nibabel.save(image, tmp_path / "thick.nii.gz")
    model_file = export_model(tiny_model(**changes), "onnx", tmp_path / "model.onnx").files[0]
    command = [sys.executable, EXAMPLE, model_file, tmp_path / "thick.nii.gz", tmp_path / "labels.nii.gz"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "thick slices" in done.stderr
    assert not (tmp_path / "labels.nii.gz").exists()
