"""nnU-Net's pools of processes, without processes: its own functions in this one, for comparisons."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from nnunetv2.evaluation import evaluate_predictions
from nnunetv2.experiment_planning import verify_dataset_integrity
from nnunetv2.experiment_planning.dataset_fingerprint import fingerprint_extractor
from nnunetv2.preprocessing.preprocessors import default_preprocessor
from nnunetv2.training.nnUNetTrainer import nnUNetTrainer

MODULES = (
    *(verify_dataset_integrity, fingerprint_extractor, default_preprocessor),
    *(nnUNetTrainer, evaluate_predictions),
)
"""That start processes."""


class SerialPool:
    """What nnU-Net uses of `multiprocessing.Pool`."""

    def __init__(self, processes: int):
        self._pool: list[Any] = []

    def __enter__(self) -> "SerialPool":
        return self

    def __exit__(self, *error: object) -> None:
        return None

    def starmap(self, function: Callable, arguments: Any) -> list[Any]:
        return [function(*one) for one in arguments]

    def starmap_async(self, function: Callable, arguments: Any) -> Any:
        done = self.starmap(function, arguments)
        return SimpleNamespace(ready=lambda: True, get=lambda: done)


@contextmanager
def serial_pools() -> Iterator[None]:
    """nnU-Net checks, analyses, preprocesses and validates in this process."""
    serial = SimpleNamespace(get_context=lambda kind: SimpleNamespace(Pool=SerialPool))
    with pytest.MonkeyPatch.context() as patch:
        for module in MODULES:
            patch.setattr(module, "multiprocessing", serial)
        yield
