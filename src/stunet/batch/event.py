"""What happens to a scan of a batch, as a ledger records it. Ledgers lie in shared folders, so nothing is believed."""

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any

Event = Mapping[str, Any]
"""`event` (one of `KINDS`), `scan`, `at` (seconds since 1970), and its details."""

KINDS = ("claimed", "released", "died", "done", "failed", "retry")

LARGEST_NUMBER = 10**11
"""Seconds of the last date that Python knows, and more bytes than a scan has."""


def is_event(content: Any) -> bool:
    """Whether a file of a ledger holds an event: a kind, and details of the right types. Any detail may be missing.

    >>> is_event({"event": "claimed", "at": 1.5, "worker": "w"}), is_event({"event": "claimed", "at": "now"})
    (True, False)
    """
    if not isinstance(content, Mapping) or content.get("event") not in KINDS:
        return False
    return all(is_right(content[name]) for name, is_right in DETAILS.items() if name in content)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and isfinite(value) and 0 <= value < LARGEST_NUMBER


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_timing(value: Any) -> bool:
    return _is_table(value) and all(map(_is_number, value.values()))


def _is_file(value: Any) -> bool:
    return _is_table(value) and _is_number(value.get("bytes")) and _is_text(value.get("sha256", ""))


DETAILS: dict[str, Callable[[Any], bool]] = {
    "worker": _is_text,
    "at": _is_number,
    "error": _is_text,
    "kind": _is_text,
    "seconds": _is_timing,
    "peak_memory_mib": lambda value: value is None or _is_number(value),
    "warnings": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "input": _is_file,
    "outputs": lambda value: _is_table(value) and all(map(_is_file, value.values())),
    **dict.fromkeys(("model", "versions", "backend", "answer"), _is_table),
}
"""Whether a detail of an event is of the right type."""
