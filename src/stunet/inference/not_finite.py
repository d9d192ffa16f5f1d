"""Explain activations that are NaN or infinite: in which layer of the network they begin, and what to do."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from stunet.errors import UserError
from stunet.inference.backends.base import Backend
from stunet.inference.sliding import NotFiniteError
from stunet.networks.network import Network
from stunet.weights.model import Model


@contextmanager
def explaining_not_finite(model: Model, backend: Backend, scan: str) -> Iterator[None]:
    """Explain features that are not finite.

    Args:
        model: that runs.
        backend: on which it runs.
        scan: what the scan is called in the message.

    Raises:
        UserError: there are such features. The message names scan, model, window and layer.
    """
    try:
        yield
    except NotFiniteError as error:
        reason = _reason(error, model.networks, f"backend {backend.name} and {backend.precision}")
        raise UserError(f"{scan}, model {model.source}: {reason}") from error


def _reason(error: NotFiniteError, networks: Sequence[Network], how: str) -> str:
    """Where the values come from. The networks run again on the window, on the CPU and in float32."""
    found = next(filter(None, (first_bad_layer(network, error.window_CZYX) for network in networks)), None)
    where = f"in the window at voxel {error.corner} (z, y, x) of the network's grid"
    if found is None:
        return (
            f"activations of the network became NaN or infinite {where}, with {how}. With torch in float32 they do "
            "not: use --backend torch --precision float32."
        )
    return (
        f"activations of the network became NaN or infinite {where}, first in layer {found}. The weights up to this "
        "layer are too large for float32: the model is damaged, or its training diverged. Copy or download it again, "
        "or use an earlier checkpoint."
    )


@torch.inference_mode()
def first_bad_layer(network: Network, window_CZYX: torch.Tensor) -> str | None:
    """The first layer whose output for this window is NaN or infinite; None if there is none.

    Args:
        network: on the CPU, float32.
        window_CZYX: (C, Z, Y, X), on any device.
    """
    bad: list[str] = []
    with ExitStack() as hooks:
        for name, layer in network.named_modules():
            if not list(layer.children()):
                handle = layer.register_forward_hook(partial(_note, name, bad))
                hooks.callback(handle.remove)
        network(window_CZYX[None].float().cpu())
    return bad[0] if bad else None


def _note(name: str, bad: list[str], layer: nn.Module, inputs: Any, output: Any) -> None:
    if isinstance(output, torch.Tensor) and not torch.isfinite(output).all():
        bad.append(name)
