"""Numeric precision of a training: convolutions in a `Precision`; weights, their updates and sums in float32."""

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from torch import nn

from stunet.errors import UnknownNameError, UserError
from stunet.inference.backends.names import PRECISIONS, Precision
from stunet.inference.backends.precision import cpu_computes_bfloat16


def resolve_precision(asked: Precision | Literal["auto"], device: torch.device) -> Precision:
    """Resolve "auto" for a device: bfloat16 if supported natively, else float16 on CUDA GPUs, else float32.

    Raises:
        UserError: an unknown precision, or float16 without the gradient scaler that only CUDA has.
    """
    if asked not in ("auto", *PRECISIONS):
        raise UnknownNameError.of("precision", asked, ("auto", *PRECISIONS))
    if asked == "float16" and device.type != "cuda":
        raise UserError("float16 is for CUDA GPUs; --precision bfloat16 or float32 is for other devices.")
    if asked != "auto":
        return asked
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if device.type == "cpu" and cpu_computes_bfloat16() else "float32"


@contextlib.contextmanager
def autocasting(precision: Precision, device: torch.device) -> Iterator[None]:
    """Compute in `precision` within this context. nnU-Net's own autocast, which sets no type, then uses it too."""
    if precision == "float32":
        with _without_autocast(device):
            yield
        return
    dtype = getattr(torch, precision)
    default = torch.get_autocast_dtype(device.type)
    torch.set_autocast_dtype(device.type, dtype)
    try:
        with torch.autocast(device.type, dtype):
            yield
    finally:
        torch.set_autocast_dtype(device.type, default)


def _without_autocast(device: torch.device) -> contextlib.AbstractContextManager:
    if torch.amp.is_autocast_available(device.type):
        return torch.autocast(device.type, enabled=False)
    return contextlib.nullcontext()


class InFloat32(nn.Module):
    """A loss that converts logits to float32, because sums over a patch would be inexact in bfloat16."""

    def __init__(self, loss: nn.Module, device: torch.device):
        super().__init__()
        self.loss = loss
        self.device = device

    def forward(self, logits: Any, target: Any) -> torch.Tensor:
        """The loss of logits (B, K, Z, Y, X), or of a list of them, as nnU-Net computes it in float32."""
        as_float = [x.float() for x in logits] if isinstance(logits, list | tuple) else logits.float()
        with _without_autocast(self.device):
            return self.loss(as_float, target)
