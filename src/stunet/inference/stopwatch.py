"""The seconds of each stage of a prediction, whose stages take turns."""

from collections.abc import Iterator
from time import perf_counter
from typing import TypeVar

import torch

from stunet.imaging.preprocess import PreparedImage

Item = TypeVar("Item")


class Stopwatch:
    """Measures consecutive stages. Waits until a GPU has finished its work."""

    def __init__(self, device: torch.device):
        self._device = device
        self._last = perf_counter()

    def lap(self) -> float:
        """Seconds since the last call or the start."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        before, self._last = self._last, perf_counter()
        return self._last - before


class TimedImage:
    """A `PlaneSource` that measures how long its planes take."""

    def __init__(self, image: PreparedImage, device: torch.device):
        self._image = image
        self._device = device
        self.record, self.shape = image.record, image.shape
        self.seconds = 0.0

    def planes(self, start: int, stop: int) -> torch.Tensor:
        """The planes of the image."""
        stopwatch = Stopwatch(self._device)
        planes_CZYX = self._image.planes(start, stop)
        self.seconds += stopwatch.lap()
        return planes_CZYX


class TimedIterator(Iterator[Item]):
    """An iterator that measures how long its items take."""

    def __init__(self, items: Iterator[Item], device: torch.device):
        self._items = items
        self._device = device
        self.seconds = 0.0

    def __next__(self) -> Item:
        stopwatch = Stopwatch(self._device)
        try:
            return next(self._items)
        finally:
            self.seconds += stopwatch.lap()
