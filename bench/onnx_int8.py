"""Quantise an exported network for ONNX Runtime as its documentation says: static, 8 bits, calibrated with windows.

The windows are from the scan that is segmented afterwards, which makes the result look better.

    python bench/onnx_int8.py SCAN MODEL_FOLDER FLOATS.onnx INT8.onnx
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from stunet.imaging.formats.registry import read_volume
from stunet.imaging.preprocess import preprocess
from stunet.inference.onnx_graph import INPUT
from stunet.weights.model import load_model

WINDOWS = 4


class Windows(CalibrationDataReader):
    """Windows of one scan, spread along its diagonal."""

    def __init__(self, scan: str, folder: str):
        model = load_model(folder)
        image_CZYX, _ = preprocess(read_volume(scan), model.plan)
        self._windows = _windows(image_CZYX.numpy(), model.plan.patch_size)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next window, or None."""
        return next(({INPUT: window_BCZYX} for window_BCZYX in self._windows), None)


def _windows(image_CZYX: np.ndarray, size: tuple[int, ...]) -> Iterator[np.ndarray]:
    missing = [max(window - n, 0) for n, window in zip(image_CZYX.shape[1:], size, strict=True)]
    padded = np.pad(image_CZYX, [(0, 0), *((0, n) for n in missing)])
    for part in np.linspace(0, 1, WINDOWS):
        starts = [int(part * (n - window)) for n, window in zip(padded.shape[1:], size, strict=True)]
        z, y, x = (slice(start, start + window) for start, window in zip(starts, size, strict=True))
        yield np.ascontiguousarray(padded[None, :, z, y, x])


def main() -> None:
    """Quantise convolutions: weights per channel, activations symmetric."""
    scan, folder, floats, output = sys.argv[1:]
    prepared = Path(output).with_suffix(".prepared.onnx")
    quant_pre_process(floats, prepared, skip_symbolic_shape=True)
    quantize_static(
        prepared,
        output,
        Windows(scan, folder),
        op_types_to_quantize=["Conv"],
        per_channel=True,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
    )


if __name__ == "__main__":
    main()
