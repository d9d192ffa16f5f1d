"""OpenVINO's runtime, one for the process."""

from functools import cache
from typing import TYPE_CHECKING

from stunet.extras import import_extra

if TYPE_CHECKING:
    from openvino import Core


@cache
def openvino_core() -> "Core":
    """Made at its first use and kept.

    OpenVINO's CPU plugin (seen in 2026.4) gives the thread that makes it a stack for signals, and at its end puts back
    the one that it found. Of two plugins whose first one ends first, the second puts back a stack that is gone, and the
    next signal, Ctrl-C for one, ends the process with a segmentation fault. One plugin that is kept never does so.

    Raises:
        UserError: OpenVINO is not installed.
    """
    return import_extra("openvino", "cpu").Core()  # type: ignore[no-any-return]
