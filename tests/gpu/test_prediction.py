"""Labels on the device against those on the CPU, with the model and the scans that come with the package."""

import numpy as np
import pytest
import torch

from stunet.cli.demo import scan_file
from stunet.errors import NotEnoughMemoryError
from stunet.inference.backends.precision import Precision
from stunet.inference.backends.torch_backend import OFFERED, TorchBackend
from stunet.inference.batching import WindowBatches, window_batches
from stunet.inference.predictor import InferenceConfig, Predictor
from tests.inference.samples import WINDOW, tiny_network

SCANS = ("hippocampus_222", "hippocampus_289")

LEAST_EQUAL: dict[Precision, float] = {"float32": 0.9999, "bfloat16": 0.995, "float16": 0.999}
"""Part of the voxels. The scans are small and all surface, so each voxel is a large part."""


def labels(scan: str, **options: object) -> np.ndarray:
    return Predictor("hippocampus", InferenceConfig(**options)).predict(scan_file(scan)).labels


@pytest.fixture(scope="module")
def on_cpu() -> dict[str, np.ndarray]:
    return {scan: labels(scan, device="cpu", backend="torch", precision="float32") for scan in SCANS}


def equal_part(found: np.ndarray, expected: np.ndarray) -> float:
    """Of the voxels, of labels in which both structures appear."""
    assert len(np.unique(expected)) == 3
    equal = float(np.mean(found == expected))
    print(f"{equal:.5f} of the voxels are equal")
    return equal


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("precision", LEAST_EQUAL)
def test_labels_in_each_precision(device, on_cpu, precision, scan):
    if precision not in OFFERED[device.type]:
        pytest.skip(f"{device.type} does not support {precision}")
    found = labels(scan, device=str(device), backend="torch", precision=precision)
    assert equal_part(found, on_cpu[scan]) >= LEAST_EQUAL[precision]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_labels_of_mirrored_copies_and_batches(device, batch_size):
    options = {"backend": "torch", "precision": "float32", "step": 0.25, "batch_size": batch_size}
    expected = labels(SCANS[0], device="cpu", **options)
    assert equal_part(labels(SCANS[0], device=str(device), **options), expected) >= LEAST_EQUAL["float32"]


def test_labels_of_the_compiled_network(device, on_cpu):
    if device.type == "cpu":
        pytest.skip("tests/inference compiles for the CPU")
    found = labels(SCANS[0], device=str(device), backend="torch", precision="float16", compiled=True)
    assert equal_part(found, on_cpu[SCANS[0]]) >= LEAST_EQUAL["float16"]


def test_labels_by_onnx_runtime(device, on_cpu):
    onnxruntime = pytest.importorskip("onnxruntime")
    provider = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}[device.type]
    if provider not in onnxruntime.get_available_providers():
        pytest.skip(f"this ONNX Runtime has no {provider}")
    found = labels(SCANS[0], device=str(device), backend="onnx", precision="float32")
    assert equal_part(found, on_cpu[SCANS[0]]) >= LEAST_EQUAL["float32"]


def test_the_choice_of_auto(device, on_cpu):
    assert equal_part(labels(SCANS[1], device=str(device)), on_cpu[SCANS[1]]) >= LEAST_EQUAL["bfloat16"]


class ScarceBackend(TorchBackend):
    """As on a device with room for two windows: a real lack on a GPU, the same exception on the CPU."""

    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        if len(windows_BCZYX) > 2:
            if self.device.type == "cuda":
                torch.empty(2**50, dtype=torch.uint8, device=self.device)
            raise torch.OutOfMemoryError("no room")
        return super().run(windows_BCZYX)


def test_too_large_a_batch_is_halved(device):
    backend = ScarceBackend([tiny_network()], device)
    windows = list(torch.randn(9, 1, *WINDOW))
    batches = WindowBatches(backend.run, device, 8)
    found = torch.stack(list(batches.features(windows)))
    assert batches.size == 2
    for window, features in zip(windows, found, strict=True):
        torch.testing.assert_close(features, backend.run(window[None])[0], rtol=1e-4, atol=1e-4)


def test_without_room_for_one_window(device):
    def run(windows: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("no room")

    with pytest.raises(NotEnoughMemoryError, match="Not enough"):
        list(WindowBatches(run, device, 4).features(list(torch.randn(2, 1, *WINDOW))))


def test_as_many_windows_together_as_fit(device):
    """One, measured, then as many as fit; on the CPU one at a time."""
    backend = TorchBackend([tiny_network()], device)
    batches = window_batches(backend.run, backend, None)
    assert len(list(batches.features(list(torch.randn(5, 1, *WINDOW))))) == 5
    assert batches.size > 1 if device.type == "cuda" else batches.size == 1
