"""The loaded models of a process. If memory is short, the least recently used one is dropped."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from stunet.errors import NotEnoughMemoryError
from stunet.serve.memory import free_bytes

if TYPE_CHECKING:
    from stunet.inference.predictor import InferenceConfig, Predictor
    from stunet.weights.model import Model

KEPT_FREE = 2 * 2**30
"""Bytes that should be free for a scan, beyond the size of a new model."""


@dataclass
class _Loaded:
    """A model, and its predictor with the settings of the last job."""

    model: "Model"
    predictor: "Predictor"


class LoadedModels:
    """Keeps models by where they come from.

    Args:
        free: bytes that are free now; the machine's by default.
    """

    def __init__(self, free: Callable[[], int] = free_bytes):
        self._free = free
        self._loaded: OrderedDict[str, _Loaded] = OrderedDict()

    @property
    def sources(self) -> list[str]:
        """Of the models that are loaded, the last used last."""
        return list(self._loaded)

    def predictor(self, source: str, config: "InferenceConfig") -> "Predictor":
        """The predictor of a model, which is loaded if needed. Other settings than before make a new predictor.

        Raises:
            UserError: as `stunet.inference.predictor.Predictor`.
        """
        from stunet.inference.predictor import Predictor

        if source not in self._loaded:
            self._make_room(source)
        kept = self._loaded.get(source)
        if kept is None or kept.predictor.config != config:
            predictor = Predictor(source if kept is None else kept.model, config)
            self._loaded[source] = _Loaded(predictor.model, predictor)
        self._loaded.move_to_end(source)
        return self._loaded[source].predictor

    def retrying(self, source: str, work: Callable[[], None]) -> None:
        """Do work. If memory runs out, drop the models that it does not need, and try once more.

        Raises:
            UserError: what `work` raises.
        """
        try:
            work()
        except NotEnoughMemoryError:
            others = [other for other in self._loaded if other != source]
            if not others:
                raise
            self._drop(others)
            work()

    def _make_room(self, source: str) -> None:
        """Drop models, the least used first, until a new one fits or none is left."""
        needed = KEPT_FREE + _file_bytes(source)
        while self._loaded and self._free() < needed:
            self._drop([next(iter(self._loaded))])

    def _drop(self, sources: list[str]) -> None:
        import gc

        import torch

        for source in sources:
            del self._loaded[source]
        gc.collect()
        torch.cuda.empty_cache()


def _file_bytes(source: str) -> int:
    """The size of a model's file, about what it takes in memory."""
    from stunet.serve.offered_models import model_path

    path = model_path(source)
    return path.stat().st_size if path is not None and path.is_file() else 0
