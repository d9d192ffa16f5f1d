"""Whether what a header claims can be in its file and in memory; asked before memory is allocated."""

import os
from pathlib import Path

from stunet.errors import FileError

DEFLATE_MAX_RATIO = 1032
"""One byte of deflate data never expands to more (zlib's technical details), so a bigger claim is false."""

MEMORY_FRACTION = 0.5
"""A scan whose voxels alone fill more of the machine's memory cannot be segmented on it and is refused at once."""


def check_claim(claimed: int, path: Path, is_compressed: bool) -> None:
    """Refuse a header whose voxels cannot be in the file or would not fit in memory.

    Args:
        claimed: Bytes that the file must hold, unpacked.
        path: The file with the voxels.
        is_compressed: Whether it may be compressed, by deflate.

    Raises:
        UserError: Naming the file.
    """
    stored = path.stat().st_size
    if claimed > stored * (DEFLATE_MAX_RATIO if is_compressed else 1):
        raise FileError(
            f"{path}: the header claims {claimed:,} bytes of voxels, but the file of {stored:,} bytes cannot hold "
            "them; it is truncated or damaged, copy or export it again."
        )
    if claimed > MEMORY_FRACTION * _physical_memory():
        raise FileError(
            f"{path}: the {claimed / 2**30:.1f} GiB of voxels that the header claims are more than this machine can "
            "handle; crop or downsample the scan."
        )


def _physical_memory() -> float:
    """Bytes of memory in this machine; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")
