"""The interface between the sliding window and the runtime of the network."""

from typing import Protocol

import torch

from stunet.inference.backends.precision import Precision
from stunet.inference.head import LinearHead


class Backend(Protocol):
    """Runs one network, or several with averaged logits, on windows.

    It returns features: maps that one affine layer, `head`, turns into logits at each voxel. So averaging features over
    windows and mirrored copies before applying `head` equals averaging logits. A backend must always return the same
    result for the same window, must be thread-safe, and must not keep or change its inputs.

    Attributes:
        name: key in `BACKENDS`.
        device: device of the results; windows may be on any device.
        precision: number format of the network.
        allocates_by_torch: whether torch allocates, and so counts, its GPU memory.
        head: maps features to logits, on `device`; `head.num_features` is F.
    """

    name: str
    device: torch.device
    precision: Precision
    allocates_by_torch: bool
    head: LinearHead

    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of float32 windows (B, C, Z, Y, X), all of the plan's patch size.

        They are float32 or in the network's precision. The same thread's next call may overwrite them.
        """
        ...
