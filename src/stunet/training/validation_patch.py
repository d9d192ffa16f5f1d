"""Labels of the validation patch for the training's pictures, also with several outputs or regions."""

from collections.abc import Sequence

import numpy as np
import torch
from nnunetv2.utilities.label_handling.label_handling import LabelManager

PICTURE_NAME = "validation_patch.png"


def highest_resolution(scales: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
    """The first of the outputs or targets, if there is deep supervision."""
    return scales if isinstance(scales, torch.Tensor) else scales[0]


def predicted_labels(logits_KZYX: torch.Tensor, manager: LabelManager) -> np.ndarray:
    """Labels (Z, Y, X) from a network's logits."""
    return np.asarray(manager.convert_logits_to_segmentation(logits_KZYX.float().cpu()))


def reference_labels(target_KZYX: torch.Tensor, manager: LabelManager) -> np.ndarray:
    """Labels (Z, Y, X) from a target, also if it is one mask per region."""
    if not manager.has_regions:
        return target_KZYX[0].numpy()
    regions = target_KZYX[: manager.num_segmentation_heads].float()
    return np.asarray(manager.convert_probabilities_to_segmentation(regions))
