"""A process that was forked from one that had loaded a model hangs for ever in its first prediction; it is refused.

torch, OpenVINO and ONNX Runtime keep threads to compute with. A fork copies the memory of a process but not its
threads, so the copy waits for threads that do not exist, whether it uses the old model or loads it again.
"""

import os

from stunet.errors import UserError

_loading_process: int | None = None
"""The process that loaded its first model; a forked process inherits the number, a spawned one does not."""


def require_unforked() -> None:
    """Remember this process, or refuse to work if it was forked from one that had loaded a model.

    Raises:
        UserError: it was.
    """
    global _loading_process
    if _loading_process not in (None, os.getpid()):
        raise UserError(
            f"Process {os.getpid()} was forked from process {_loading_process}, which had loaded a model. Prediction "
            'would hang, for a fork copies no threads. Start processes with multiprocessing.get_context("spawn"), or '
            "load the model after the fork."
        )
    _loading_process = os.getpid()
