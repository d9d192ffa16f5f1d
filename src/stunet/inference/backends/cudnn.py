"""How NVIDIA's convolutions are computed while a network of ours runs; a user's own settings come back afterwards."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_running = 0
_settings = ExitStack()


@contextmanager
def exact_and_tuned() -> Iterator[None]:
    """Convolutions in float32 without TF32, which has 10 bits of fraction, by the algorithms that cuDNN finds fastest.

    torch's settings are the process's, not the thread's: the first to enter sets them, the last to leave resets them.
    """
    global _running
    with _lock:
        if _running == 0:
            _settings.enter_context(torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=False))
        _running += 1
    try:
        yield
    finally:
        with _lock:
            _running -= 1
            if _running == 0:
                _settings.close()
