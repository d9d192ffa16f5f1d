"""A file for `nnUNetv2_train -pretrained_weights`."""

from collections.abc import Mapping
from pathlib import Path

import torch

from stunet.errors import UserError
from stunet.files import made_folder, replacing

SUFFIX = ".pth"
"""What nnU-Net v2 calls its checkpoints."""


def save_for_nnunet(path: str | Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Writes weights as nnU-Net v2's checkpoints hold them, under "network_weights", in float32.

    nnU-Net reads the file with `load_pretrained_weights`: it leaves the heads out (".seg_layers." in their names) and
    demands that all else has the names and shapes of the network to be trained.

    Args:
        path: where, ending in ".pth"; its folder is made.
        state_dict: every tensor of a network of ours, in our names.

    Raises:
        UserError: another ending, a disk that is full, or a folder that cannot be written.
    """
    path = Path(path)
    if path.suffix != SUFFIX:
        raise UserError(f"nnU-Net's files of weights end in {SUFFIX}, and {path.name} does not.")
    made_folder(path.parent)
    with replacing(path) as temporary:
        torch.save({"network_weights": {key: tensor.float() for key, tensor in state_dict.items()}}, temporary)
