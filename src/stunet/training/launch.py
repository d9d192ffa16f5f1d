"""Several processes that train together on this machine; over many nodes torchrun starts `-m stunet train ...`."""

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
"""How long a process that was told to stop may finish its step and save, before it is killed; torchrun's own is 30."""

FROM_SIGNAL = 128
"""Exit codes from here on say which signal ended a process."""


def launch(function: Callable[..., int], *arguments: Any, processes: int) -> int:
    """Run a function in several processes on this machine, each told by torchrun's variables who it is.

    Args:
        function: at the top of a module; returns an exit code.
        arguments: that can be pickled.
        processes: how many.

    Returns:
        The exit code of the process that fared worst.

    Raises:
        UserError: fewer than one process.
    """
    if processes < 1:
        raise UserError(f"{processes} processes cannot train; --gpus is 1 or more.")
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
    """What each process runs. One that was told to stop ends at once: torchrun's wait for a sign that never comes."""
    code = function(*arguments)
    if code >= FROM_SIGNAL:
        sys.exit(code)
    return code
