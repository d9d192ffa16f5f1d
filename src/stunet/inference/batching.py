"""Windows that go through the network together: as many as fit into memory, and fewer once it has run out."""

from collections.abc import Callable, Iterator, Sequence

import torch

from stunet.errors import NotEnoughMemoryError
from stunet.inference.backends.base import Backend

RunWindows = Callable[[torch.Tensor], torch.Tensor]
"""From windows (B, C, Z, Y, X) to their features (B, Z, Y, X, F), which do not depend on B."""

USABLE_FRACTION = 0.8
"""Of a GPU's free memory; the rest is for fragments and for what convolutions choose to use beside their answers."""

MOST_BYTES = 8 * 2**30
"""What a batch may take, so that no tensor has 2^31 elements, which are too many for some of torch's CUDA kernels: the
largest, the joined inputs of the last decoder stage, is there together with its parts, so it is at most half of all;
and an element has two bytes at least."""


def window_batches(run: RunWindows, backend: Backend, size: int | None) -> "WindowBatches":
    """Batches of the given size; with None one window at a time, or as many as fit on a GPU that torch fills."""
    if size is None and backend.device.type == "cuda" and backend.allocates_by_torch:
        return FittedBatches(run, backend.device)
    return WindowBatches(run, backend.device, size or 1)


def fitting_size(free_bytes: int, window_bytes: int) -> int:
    """How many windows, of which one takes `window_bytes` while it runs, may go together; at least one.

    >>> fitting_size(free_bytes=10_000, window_bytes=2_500)
    3
    """
    return max(1, int(min(USABLE_FRACTION * free_bytes, MOST_BYTES) / max(window_bytes, 1)))


def _too_little_memory(device: torch.device) -> str:
    if device.type == "cpu":
        return "There is too little memory for one window of this model. Close other programs or take a smaller model."
    return (
        "The GPU has too little free memory for one window of this model. Stop other programs that use the GPU, take a "
        "smaller model, or --device cpu."
    )


class WindowBatches:
    """Runs windows together; each time that memory runs out, half as many from then on.

    Args:
        run: what runs them.
        device: where they run.
        size: windows that go together at first.

    Attributes:
        size: windows that go together now.
    """

    def __init__(self, run: RunWindows, device: torch.device, size: int):
        self._run = run
        self._device = device
        self.size = size

    def features(self, windows: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The features (Z, Y, X, F) of each window (C, Z, Y, X), in order.

        A batch's features are freed once the next is asked for, provided that the caller did not keep any.

        Raises:
            UserError: there is too little memory for one window.
        """
        done = 0
        while done < len(windows):
            features_BZYXF = self._of_first(windows[done : done + self.size])
            done += len(features_BZYXF)
            yield from features_BZYXF
            del features_BZYXF

    def _of_first(self, windows: Sequence[torch.Tensor]) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of the windows, or of as many of the first of them as fit."""
        while (features_BZYXF := self._of_all(windows)) is None:
            if len(windows) == 1:
                raise NotEnoughMemoryError(_too_little_memory(self._device))
            self.size = len(windows) // 2
            windows = windows[: self.size]
            torch.cuda.empty_cache()
        return features_BZYXF

    def _of_all(self, windows: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """The features (B, Z, Y, X, F), or None if memory ran out; then all that the attempt held is free again."""
        try:
            return self._run(torch.stack(list(windows)))
        except torch.OutOfMemoryError:
            return None


class FittedBatches(WindowBatches):
    """As many windows together as fit into the memory of an NVIDIA GPU: the first goes alone and is measured.

    Args:
        run: what runs them.
        device: the GPU on which they run.
    """

    def __init__(self, run: RunWindows, device: torch.device):
        super().__init__(run, device, size=1)
        self._is_measured = False

    def _of_all(self, windows: Sequence[torch.Tensor]) -> torch.Tensor | None:
        if self._is_measured:
            return super()._of_all(windows)
        before = torch.cuda.memory_allocated(self._device)
        torch.cuda.reset_peak_memory_stats(self._device)
        features_BZYXF = super()._of_all(windows)
        # what the driver could give, and what torch holds without using it
        free, _ = torch.cuda.mem_get_info(self._device)
        free += torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        self.size = fitting_size(free, torch.cuda.max_memory_allocated(self._device) - before)
        self._is_measured = True
        return features_BZYXF
