"""What torch's profiler says of memory."""

import json
from pathlib import Path

from torch.profiler import profile


def most_allocated(record: profile, path: Path) -> int:
    """Bytes at the peak of a profile, beyond those before its first allocation, which earlier profiles may have left.

    Args:
        record: a profile of the CPU's memory, closed.
        path: a file to write.
    """
    record.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    first, *_ = events = sorted(events, key=lambda event: event["ts"])
    before = first["args"]["Total Allocated"] - first["args"]["Bytes"]
    return max(event["args"]["Total Allocated"] for event in events) - before
