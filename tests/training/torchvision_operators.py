"""Makes torchvision importable where it was built for CUDA and torch was not.

nnU-Net's search for a trainer by name imports all of nnU-Net's trainers; some import timm, and timm torchvision. Beside
a torch for CPUs, the registry's torchvision cannot load its operators, and then it cannot be imported at all. Nothing
here calls these operators; that they are declared is enough.
"""

import sys
from contextlib import suppress

import torch

SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_LIBRARY: list[torch.library.Library] = []  # a library's operators vanish with it


def declare_if_missing() -> None:
    """Do nothing where torchvision is absent or works."""
    with suppress(ImportError):
        try:
            import torchvision
        except RuntimeError:
            for name in [name for name in sys.modules if name.partition(".")[0] in ("torchvision", "timm")]:
                del sys.modules[name]
            _LIBRARY.append(torch.library.Library("torchvision", "FRAGMENT"))
            for schema in SCHEMAS:
                _LIBRARY[0].define(schema)
            import torchvision  # noqa: F401
