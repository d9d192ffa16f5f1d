"""In which numbers a network computes, and which of them suit a machine."""

from typing import Literal, get_args

import torch

from stunet.errors import UserError

Precision = Literal["float32", "bfloat16", "float16"]
"""Of the network alone: features are averaged, and the head is applied, in float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def default_precision(device: torch.device) -> Precision:
    """float16 on NVIDIA's GPUs, as nnU-Net; else float32.

    bfloat16 is nearly twice as fast where CPUs have it, but moves labels where two classes are nearly equal, so it is
    for the user to choose.
    """
    return "float16" if device.type == "cuda" else "float32"


def cpu_computes_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively; elsewhere bfloat16 would be slower than float32."""
    supports = (getattr(torch.cpu, f"_is_{name}_supported", None) for name in ("avx512_bf16", "amx_tile"))
    return any(supported() for supported in supports if supported is not None)


def require_precision(
    precision: Precision, possible: tuple[Precision, ...], backend: str, device: torch.device
) -> None:
    """Refuse a precision that a backend does not offer.

    Raises:
        UserError: with those that it offers.
    """
    if precision not in possible:
        raise UserError(
            f"Backend {backend!r} does not compute in {precision} on {device.type!r}; it offers {', '.join(possible)}."
        )
