"""Start several training processes on this machine. For several nodes, use torchrun with `-m stunet train ...`."""

import os
import sys
import uuid
from collections.abc import Callable
from typing import Any

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from stunet.errors import UserError

SECONDS_TO_SAVE = 600
"""Seconds that a process has after a signal to finish its step and save, before it is killed (torchrun: 30)."""

FROM_SIGNAL = 128
"""Exit codes above this encode the signal that ended a process."""


def launch(function: Callable[..., int], *arguments: Any, processes: int) -> int:
    """Run a function in several processes on this machine, each with torchrun's variables for its rank.

    Args:
        function: at module level; returns an exit code.
        arguments: must be picklable.
        processes: number of processes.

    Returns:
        The highest exit code of the processes.

    Raises:
        UserError: fewer than one process.
    """
    if processes < 1:
        raise UserError(f"--gpus must be 1 or more, not {processes}.")
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(SECONDS_TO_SAVE))
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
    )
    try:
        codes = elastic_launch(config, _in_process)(function, *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return abs(failure.exitcode) or 1
    except SignalException as stop:
        return FROM_SIGNAL + int(stop.sigval)
    return max(codes.values())


def _in_process(function: Callable[..., int], *arguments: Any) -> int:
    """Runs in each process. It exits at once after a signal, because torchrun would wait for a message forever."""
    code = function(*arguments)
    if code >= FROM_SIGNAL:
        sys.exit(code)
    return code
