"""STU-Net: scalable and transferable 3D segmentation of CT, MR and PET.

The names below are the front door; each is imported when it is first used, so that `import stunet` is instant.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_FRONT_DOOR = {
    "build_network": "stunet.networks.registry",
    "load_model": "stunet.weights.model",
    "Predictor": "stunet.inference.predictor",
    "read_volume": "stunet.imaging.formats.registry",
    "write_labels": "stunet.imaging.formats.registry",
    "LABELS": "stunet.labels.ontology",
    "GROUPS": "stunet.labels.ontology",
}

__all__ = ["__version__", *_FRONT_DOOR]


def __getattr__(name: str) -> Any:
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module 'stunet' has no attribute {name!r}")
    return getattr(import_module(_FRONT_DOOR[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
