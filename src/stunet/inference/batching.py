"""Run windows in batches that fit into memory; if memory runs out, batches get smaller."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch

from stunet.errors import NotEnoughMemoryError
from stunet.inference.backends.base import Backend

RunWindows = Callable[[torch.Tensor], torch.Tensor]
"""Windows (B, C, Z, Y, X) to their features (B, Z, Y, X, F), which do not depend on B."""

USABLE_FRACTION = 0.8
"""Fraction of a GPU's free memory to use; the rest is for fragmentation and for workspaces of convolutions."""

MOST_BYTES = 8 * 2**30
"""The most memory of a batch, so that no tensor has 2^31 elements, which is too many for some of torch's CUDA kernels.
The largest tensor, the concatenated input of the last decoder stage, exists together with its parts, so it is at most
half of the total; and an element has at least two bytes."""


def window_batches(run: RunWindows, backend: Backend, size: int | None) -> "WindowBatches":
    """Batches of the given size. None means one window, or on a GPU managed by torch as many as fit."""
    if size is None and backend.device.type == "cuda" and backend.allocates_by_torch:
        return FittedBatches(run, backend.device)
    return WindowBatches(run, backend.device, size or 1)


def fitting_size(free_bytes: int, window_bytes: int) -> int:
    """How many windows of `window_bytes` may run together; at least one.

    >>> fitting_size(free_bytes=10_000, window_bytes=2_500)
    3
    """
    return max(1, int(min(USABLE_FRACTION * free_bytes, MOST_BYTES) / max(window_bytes, 1)))


def _too_little_memory(device: torch.device) -> str:
    if device.type == "cpu":
        return "Not enough memory for one window of this model. Close other programs or use a smaller model."
    return (
        "Not enough free GPU memory for one window of this model. Stop other programs that use the GPU, use a smaller "
        "model, or --device cpu."
    )


def is_lack_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU has run out of memory. For Apple's GPUs torch has no specific exception."""
    return isinstance(error, torch.OutOfMemoryError) or "MPS backend out of memory" in str(error)


@contextmanager
def explaining_full_memory(device: torch.device) -> Iterator[None]:
    """Explain a lack of memory outside the windows: for weights, features, or labels of a large image.

    Raises:
        NotEnoughMemoryError: memory ran out.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lack_of_memory(error):
            raise
        raise NotEnoughMemoryError(
            f"Not enough memory on {device} for this model and scan. Stop other programs that use it, use a smaller "
            "model, or --device cpu."
        ) from error


def empty_cache(device: torch.device) -> None:
    """Release GPU memory that torch has cached but does not use."""
    if device.type == "mps":
        torch.mps.empty_cache()
    else:
        torch.cuda.empty_cache()  # does nothing without a GPU


class WindowBatches:
    """Runs windows in batches. Each time memory runs out, the batch size is halved.

    Args:
        run: runs a batch.
        device: where it runs.
        size: initial batch size.

    Attributes:
            size: current batch size.
    """

    def __init__(self, run: RunWindows, device: torch.device, size: int):
        self._run = run
        self._device = device
        self.size = size

    def features(self, windows: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """The features (Z, Y, X, F) of each window (C, Z, Y, X), in order.

        A batch's features are freed when the next one is requested, unless the caller keeps them.

        Raises:
            UserError: there is not enough memory for one window.
        """
        done = 0
        while done < len(windows):
            features_BZYXF = self._of_first(windows[done : done + self.size])
            done += len(features_BZYXF)
            yield from features_BZYXF
            del features_BZYXF

    def _of_first(self, windows: Sequence[torch.Tensor]) -> torch.Tensor:
        """The features (B, Z, Y, X, F) of the windows, or of the first ones that fit."""
        while (features_BZYXF := self._of_all(windows)) is None:
            if len(windows) == 1:
                raise NotEnoughMemoryError(_too_little_memory(self._device))
            self.size = len(windows) // 2
            windows = windows[: self.size]
            empty_cache(self._device)
        return features_BZYXF

    def _of_all(self, windows: Sequence[torch.Tensor]) -> torch.Tensor | None:
        """The features (B, Z, Y, X, F), or None if memory ran out; then the memory of the attempt is free again."""
        try:
            return self._run(torch.stack(list(windows)))
        except RuntimeError as error:
            if not is_lack_of_memory(error):
                raise
            return None


class FittedBatches(WindowBatches):
    """Runs as many windows together as fit on an NVIDIA GPU. The first runs alone and is measured.

    Args:
        run: runs a batch.
        device: the GPU.
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
        # memory that the driver has free, and memory that torch has cached but does not use
        free, _ = torch.cuda.mem_get_info(self._device)
        free += torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        self.size = fitting_size(free, torch.cuda.max_memory_allocated(self._device) - before)
        self._is_measured = True
        return features_BZYXF
