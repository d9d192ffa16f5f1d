"""In which numbers a network computes, and which of them suit a machine."""

from collections.abc import Sequence
from importlib.metadata import version
from typing import Literal, get_args

import torch

from stunet.errors import UserError
from stunet.networks.network import Network
from stunet.networks.stunet import STUNet

Precision = Literal["float32", "bfloat16", "float16"]
"""Of the network alone: features are averaged, and the head is applied, in float32."""

PRECISIONS: tuple[Precision, ...] = get_args(Precision)


PROVEN_OPENVINO = "2026.4."
"""With what `bench/precision.py` was run; another version may read the marks of `openvino_precision` in another way."""


def default_precision(backend: str, device: torch.device, networks: Sequence[Network]) -> Precision:
    """float16 on NVIDIA's GPUs, as nnU-Net; bfloat16 of STU-Nets by OpenVINO on CPUs that have it; else float32.

    OpenVINO keeps in float32 what bfloat16 is too coarse for (`openvino_precision`): each structure that a trained
    network found has a DSC of 0.995 or more against float32 (`bench/precision.py`). That holds for the published
    STU-Nets and their scalings, not for Table 6's other ways up, and not for torch: there the user chooses bfloat16.
    """
    if device.type == "cuda" and backend == "torch":
        return "float16"
    if backend != "openvino" or not cpu_computes_bfloat16():
        return "float32"
    is_proven = all(isinstance(network, STUNet) and network.upsampling == "nearest" for network in networks)
    return "bfloat16" if is_proven and version("openvino").startswith(PROVEN_OPENVINO) else "float32"


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
