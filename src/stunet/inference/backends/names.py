"""The names of backends and precisions. This file does not use torch."""

from typing import Literal, get_args

BackendName = Literal["torch", "openvino", "onnx"]
"""A runtime of the network; `stunet.inference.backends.registry.BACKENDS` has its class."""

BACKEND_NAMES: tuple[BackendName, ...] = get_args(BackendName)

Precision = Literal["float32", "bfloat16", "float16"]
"""Precision of the network only: averaging and the head always use float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)
