"""STU-Net: scalable and transferable 3D segmentation of CT, MR and PET.

The names below are the public API. Each is imported on first use, so `import stunet` is instant. The package prints
nothing; it logs to the logger "stunet".
"""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stunet.batch.predict_scans import predict_cases as predict_cases
    from stunet.errors import Stopped as Stopped
    from stunet.errors import UserError as UserError
    from stunet.evaluation.report import evaluate as evaluate
    from stunet.imaging.formats.dicom.found import find_series as find_series
    from stunet.imaging.formats.registry import read_volume as read_volume
    from stunet.imaging.formats.registry import write_labels as write_labels
    from stunet.imaging.volume import Volume as Volume
    from stunet.inference.config import InferenceConfig as InferenceConfig
    from stunet.inference.predictor import Predictor as Predictor
    from stunet.inference.segmentation import Segmentation as Segmentation
    from stunet.labels.ontology import GROUPS as GROUPS
    from stunet.labels.ontology import LABELS as LABELS
    from stunet.networks.listing import list_networks as list_networks
    from stunet.pictures.notebook import show as show
    from stunet.serve.client import Client as Client
    from stunet.weights.build_network import build_network as build_network
    from stunet.weights.catalogue import list_models as list_models
    from stunet.weights.model import load_model as load_model

__version__ = "0.1.0"

_FRONT_DOOR = {
    "Client": "stunet.serve.client",
    "GROUPS": "stunet.labels.ontology",
    "LABELS": "stunet.labels.ontology",
    "InferenceConfig": "stunet.inference.config",
    "Predictor": "stunet.inference.predictor",
    "Segmentation": "stunet.inference.segmentation",
    "Stopped": "stunet.errors",
    "UserError": "stunet.errors",
    "Volume": "stunet.imaging.volume",
    "build_network": "stunet.weights.build_network",
    "evaluate": "stunet.evaluation.report",
    "find_series": "stunet.imaging.formats.dicom.found",
    "list_models": "stunet.weights.catalogue",
    "list_networks": "stunet.networks.listing",
    "load_model": "stunet.weights.model",
    "predict_cases": "stunet.batch.predict_scans",
    "read_volume": "stunet.imaging.formats.registry",
    "show": "stunet.pictures.notebook",
    "write_labels": "stunet.imaging.formats.registry",
}

__all__ = ["__version__", *_FRONT_DOOR]

logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name not in _FRONT_DOOR:
        raise AttributeError(f"module 'stunet' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_FRONT_DOOR[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
