"""Refuse weights that are NaN or infinite, by the name of their tensor and file."""

from collections.abc import Mapping
from pathlib import Path

import torch

from stunet.errors import FileError, listed


def require_finite(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Refuse tensors with values that are NaN or infinite. Each tensor is read once.

    Args:
        tensors: weights by their names in the file.
        path: of the file, for the message.

    Raises:
        UserError: a tensor has such values.
    """
    bad = [name for name, tensor in tensors.items() if not _is_finite(tensor)]
    if bad:
        first = tensors[bad[0]]
        count = int((~torch.isfinite(first)).sum())
        raise FileError(
            f"{path}: {count:,} of {first.numel():,} values of {bad[0]} are NaN or infinite (tensors with such values: "
            f"{listed(bad, 3)}). The file is damaged, or its training diverged. Copy or download it again, or use an "
            "earlier checkpoint."
        )


def _is_finite(tensor: torch.Tensor) -> bool:
    """Whether all values are finite. Their sum says so in one pass; only if it overflows, each value is looked at."""
    if not tensor.is_floating_point():
        return True
    total = tensor.sum(dtype=torch.promote_types(tensor.dtype, torch.float32))
    return bool(torch.isfinite(total)) or bool(torch.isfinite(tensor).all())
