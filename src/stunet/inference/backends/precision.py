"""Precisions of a network, and which of them suit a machine."""

import torch

from stunet.errors import UserError
from stunet.inference.backends.names import Precision


def default_precision(backend: str, device: torch.device) -> Precision:
    """The fastest precision: float16 on NVIDIA GPUs, as in nnU-Net; bfloat16 with OpenVINO on CPUs that have it.

    float32 elsewhere. Whether a model keeps its structures in it is checked by `stunet.inference.precision_check`. Both
    backends keep the decoder's stream in float32 (`float32_stream`, `openvino_precision`).
    """
    if device.type == "cuda" and backend == "torch":
        return "float16"
    return "bfloat16" if backend == "openvino" and cpu_computes_bfloat16() else "float32"


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
