"""Read memory allocations from torch's profiler."""

import json
from pathlib import Path

from torch.profiler import profile


def most_allocated(record: profile, path: Path) -> int:
    """Peak bytes of a profile, without bytes allocated before its first allocation, which may be from earlier profiles.

    Args:
        record: a profile of the CPU's memory, closed.
        path: a file to write.
    """
    record.export_chrome_trace(str(path))
    events = [event for event in json.loads(path.read_text())["traceEvents"] if event.get("name") == "[memory]"]
    first, *_ = events = sorted(events, key=lambda event: event["ts"])
    before = first["args"]["Total Allocated"] - first["args"]["Bytes"]
    return max(event["args"]["Total Allocated"] for event in events) - before
