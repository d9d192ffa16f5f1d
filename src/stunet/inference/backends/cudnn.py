"""cuDNN settings while one of our networks runs; the user's own settings are restored afterwards."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch

_lock = threading.Lock()
_running = 0
_settings = ExitStack()


@contextmanager
def exact_and_tuned() -> Iterator[None]:
    """Use float32 convolutions without TF32, which has a 10-bit fraction, and the algorithms that cuDNN finds fastest.

    torch's settings apply to the process, not the thread: the first thread to enter sets them, the last to leave resets
    them.
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
