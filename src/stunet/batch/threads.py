"""The threads that torch computes with. This file does not use torch, which reads its variables when it is loaded."""

import os

from stunet.inference.backends.names import has_openvino


def usual_threads() -> int:
    """What OMP_NUM_THREADS says, as for torch; else the processors that this process may use."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdigit() and int(stated):
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def let_waiting_threads_sleep(backend: str = "auto") -> None:
    """Let threads of torch that wait for each other sleep instead of spin. Call it before torch is loaded.

    Spinning threads of torch take the processors from the threads of OpenVINO: on two processors, a folder of 30
    hippocampi takes 12.2 s with spinning threads, and 8.7 s with sleeping ones. If torch runs the network, nothing
    changes, because sleeping would take a tenth longer there. The user's own OMP_WAIT_POLICY is kept.

    Args:
        backend: the one that was requested.
    """
    if backend != "torch" and has_openvino():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
