"""Check a header's claimed size against its file and the memory, before memory is allocated."""

from pathlib import Path

from stunet.allocator import physical_memory
from stunet.errors import FileError

DEFLATE_MAX_RATIO = 1032
"""A byte of deflate data never expands to more (zlib's technical details), so a larger claim is false."""

MEMORY_FRACTION = 0.5
"""A scan whose voxels alone need more than this fraction of the machine's memory is refused at once."""


def check_claim(claimed: int, path: Path, is_compressed: bool) -> None:
    """Refuse a header whose voxels cannot be in the file or would not fit in memory.

    Args:
        claimed: Uncompressed bytes that the header claims.
        path: The file with the voxels.
        is_compressed: Whether the file may be compressed by deflate.

    Raises:
        UserError: The message names the file.
    """
    stored = path.stat().st_size
    if claimed > stored * (DEFLATE_MAX_RATIO if is_compressed else 1):
        raise FileError(
            f"{path}: the header claims {claimed:,} bytes of voxels, but the file of {stored:,} bytes cannot hold "
            "them; it is truncated or damaged, copy or export it again."
        )
    memory = physical_memory()
    if memory is not None and claimed > MEMORY_FRACTION * memory:
        raise FileError(
            f"{path}: the {claimed / 2**30:.1f} GiB of voxels that the header claims are more than this machine can "
            "handle; crop or downsample the scan."
        )
