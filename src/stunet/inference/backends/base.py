"""The contract between the sliding window and whatever runs the network."""

from typing import Protocol

import torch

from stunet.inference.backends.precision import Precision
from stunet.inference.head import LinearHead


class Backend(Protocol):
    """Runs one network, or several whose logits are to be averaged, on windows.

    It answers with features: any maps from which one affine layer, `head`, makes the logits at each voxel. Whoever
    averages features over windows and mirrored copies and then applies `head` has averaged logits. A backend must give
    the same answer to the same window whenever it is asked, may be asked by several threads at once, and neither keeps
    nor changes what it is given.

    Attributes:
        name: as in `BACKENDS`.
        device: where the answers lie; windows may come from anywhere.
        precision: in which the network computes.
        allocates_by_torch: whether torch counts the memory that it takes on a GPU.
        head: from its features to logits, on `device`; `head.num_features` is F.
    """

    name: str
    device: torch.device
    precision: Precision
    allocates_by_torch: bool
    head: LinearHead

    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of float32 windows (B, C, Z, Y, X), all of the plan's patch size.

        They are float32 or in the precision of the network, and may be overwritten by the same thread's next call.
        """
        ...
