"""Precisions of a network, and which of them suit a machine."""

from collections.abc import Sequence
from importlib.metadata import version

import torch

from stunet.errors import UserError
from stunet.inference.backends.names import Precision
from stunet.networks.network import Network
from stunet.networks.stunet import STUNet

PROVEN_OPENVINO = "2026.4."
"""The version of the run of `bench/precision.py`; others may interpret the marks of `openvino_precision`
differently."""


def default_precision(backend: str, device: torch.device, networks: Sequence[Network]) -> Precision:
    """float16 on NVIDIA GPUs, as in nnU-Net; bfloat16 for STU-Nets with OpenVINO on CPUs that support it; else float32.

    In float16 and bfloat16, torch keeps the decoder's stream in float32 (`float32_stream`).

    With OpenVINO, parts for which bfloat16 is too coarse stay in float32 (`openvino_precision`): each structure that a
    trained network found has a DSC of 0.995 or more against float32 (`bench/precision.py`). This applies to the
    published STU-Nets and their scalings, but not to Table 6's other up-samplings or to torch, where bfloat16 must be
    chosen explicitly.
    """
    if device.type == "cuda" and backend == "torch":
        return "float16"
    if backend != "openvino" or not cpu_computes_bfloat16():
        return "float32"
    is_proven = all(isinstance(network, STUNet) and network.upsampling == "nearest" for network in networks)
    return "bfloat16" if is_proven and version("openvino").startswith(PROVEN_OPENVINO) else "float32"


def cpu_computes_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively; if not, bfloat16 is slower than float32."""
    supports = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(supported() for supported in supports if supported is not None)


def require_precision(
    precision: Precision, possible: tuple[Precision, ...], backend: str, device: torch.device
) -> None:
    """Refuse a precision that a backend does not support.

    Raises:
        UserError: the precision is not supported; the message lists those that are.
    """
    if precision not in possible:
        raise UserError(
            f"Backend {backend!r} does not support {precision} on {device.type!r}, only {', '.join(possible)}."
        )
