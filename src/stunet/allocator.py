"""How this process gets its memory from the system."""

import ctypes

LARGEST_KEPT = 1 << 30
"""Bytes. A larger block still goes back to the system when it is freed."""

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of these parameters in glibc's `malloc.h`."""


def keep_freed_memory() -> bool:
    """Large blocks that are freed stay with the process, for the next ones of their size.

    By itself glibc gives each block of more than 32 MiB back to the system at once, and the next one comes page by page
    and filled with zeros: for a window of 128x128x128 through STU-Net-S on a CPU that is 45 % of the time in torch. The
    price is memory that lies idle, 0.4 to 0.9 GB there: small pieces come to lie between the blocks, and up to some ten
    blocks of a size are fetched before one of them always fits. It is a setting of the whole process, so commands make
    it, and no other part of this package does.

    Returns:
        Whether there is such a setting here: glibc alone has it.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # no such function; no such way to look for one (Windows)
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT) and mallopt(_TRIM_THRESHOLD, -1))
