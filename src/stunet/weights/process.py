"""Refuse to work in a process forked after a model was loaded, because its first prediction would hang.

torch, OpenVINO and ONNX Runtime keep worker threads. A fork copies a process's memory but not its threads, so the copy
waits for threads that do not exist, even if it loads the model again.
"""

import os

from stunet.errors import UserError

_loading_process: int | None = None
"""Id of the process that loaded a model. A forked process inherits it, a spawned one does not."""


def require_unforked() -> None:
    """Remember this process, or refuse to work if it was forked after a model was loaded.

    Raises:
        UserError: the process was forked after a model was loaded.
    """
    global _loading_process
    if _loading_process not in (None, os.getpid()):
        raise UserError(
            f"Process {os.getpid()} was forked from process {_loading_process}, which had loaded a model. Prediction "
            "would hang, because a fork does not copy threads. Start processes with "
            'multiprocessing.get_context("spawn"), or load the model after the fork.'
        )
    _loading_process = os.getpid()
