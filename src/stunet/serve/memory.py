"""Free memory of the machine and its GPU."""

import sys
from pathlib import Path

from stunet.allocator import memory_limit

PLENTY = 2**62
"""Used if the system does not report it."""


def free_bytes() -> int:
    """Free memory of the machine; with an NVIDIA GPU, of the one that has less. No more than this process may have."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        return min(_of_machine(), int(torch.cuda.mem_get_info()[0]))
    return _of_machine()


def _of_machine() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return PLENTY
    kilobytes = next((line.split()[1] for line in lines if line.startswith("MemAvailable:")), None)
    free = PLENTY if kilobytes is None else 1024 * int(kilobytes)
    return min(free, memory_limit() or PLENTY)
