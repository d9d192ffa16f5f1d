"""Write a weights file for `nnUNetv2_train -pretrained_weights`."""

from collections.abc import Mapping
from pathlib import Path

import torch

from stunet.errors import UserError
from stunet.files import made_folder, replacing, require_output

SUFFIX = ".pth"
"""The suffix of nnU-Net v2 checkpoints."""


def require_nnunet_path(path: Path) -> None:
    """Refuse a path to which no weights for nnU-Net can be written, before any work is done.

    Raises:
        UserError: the suffix is wrong, the disk is full, or the folder is not writable.
    """
    if path.suffix != SUFFIX:
        raise UserError(f"nnU-Net's weights files end in {SUFFIX}, but {path.name} does not.")
    require_output(path)


def save_for_nnunet(path: str | Path, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Write weights as in nnU-Net v2's checkpoints: under "network_weights", in float32.

    nnU-Net reads the file with `load_pretrained_weights`: it skips the heads (".seg_layers." in their names) and
    requires all other tensors to have the names and shapes of the network to be trained.

    Args:
        path: the output, ending in ".pth"; its folder is created.
        state_dict: all tensors of one of our networks, by our names.

    Raises:
        UserError: the suffix is wrong, the disk is full, or the folder is not writable.
    """
    path = Path(path)
    require_nnunet_path(path)
    made_folder(path.parent)
    weights = {key: tensor.float() for key, tensor in state_dict.items()}
    with (
        replacing(path) as temporary,
        temporary.open("wb") as file,
    ):  # given a path, torch writes its name into the file
        torch.save({"network_weights": weights}, file)
