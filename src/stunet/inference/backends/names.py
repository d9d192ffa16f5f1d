"""The names of backends and precisions. This file does not use torch."""

from importlib.util import find_spec
from typing import Literal, get_args

BackendName = Literal["torch", "openvino", "onnx"]
"""A runtime of the network; `stunet.inference.backends.registry.BACKENDS` has its class."""

BACKEND_NAMES: tuple[BackendName, ...] = get_args(BackendName)

Precision = Literal["float32", "bfloat16", "float16"]
"""Precision of the network only: averaging and the head always use float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def has_openvino() -> bool:
    """Whether everything is installed that the OpenVINO backend needs. Nothing of it is loaded."""
    return all(find_spec(package) is not None for package in ("openvino", "onnx"))
