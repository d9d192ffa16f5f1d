"""Windows over a volume, within a memory budget."""

from stunet.inference.model import Model, load_model
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.inference.segmentation import Segmentation

__all__ = ["InferenceConfig", "Model", "Predictor", "Segmentation", "load_model"]
