"""Strategies that damage values in JSON, TOML and the header of a model file."""

import copy
import json
from typing import Any

from hypothesis import strategies as st

from tests.fuzz.damage import Draw, damaged_bytes, odd_values


@st.composite
def damaged_value(draw: Draw, value: Any) -> Any:
    """A tree of JSON with odd, missing or moved branches."""
    changed = copy.deepcopy(value)
    for _ in range(draw(st.integers(1, 4))):
        place: Any = changed
        while isinstance(place, dict | list) and place:
            key = draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
            if not isinstance(place[key], dict | list) or not place[key] or draw(st.integers(0, 3)) == 0:
                break
            place = place[key]
        if not isinstance(place, dict | list) or not place:
            return draw(odd_values)
        act = draw(st.sampled_from(("value", "value", "value", "remove", "move")))
        if act == "remove":
            del place[key]
        elif act == "move":
            place[key] = copy.deepcopy(value)
        else:
            place[key] = copy.deepcopy(draw(odd_values))
    return changed


@st.composite
def damaged_json(draw: Draw, content: bytes) -> bytes:
    """A file of JSON, or of lines of JSON, damaged as values or as bytes."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged_bytes(content))
    try:
        return _json(draw(damaged_value(json.loads(content))))
    except ValueError:
        lines = content.splitlines()
    number = draw(st.integers(0, len(lines) - 1)) if lines else 0
    if lines:
        lines[number] = _json(draw(damaged_value(json.loads(lines[number]))))
    return b"\n".join(lines) + b"\n"


def _json(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@st.composite
def damaged_model(draw: Draw, content: bytes) -> bytes:
    """A safetensors file with a damaged card, or a damaged table of tensors."""
    if draw(st.integers(0, 4)) == 0:
        return draw(damaged_bytes(content))
    length = int.from_bytes(content[:8], "little")
    table = json.loads(content[8 : 8 + length])
    if draw(st.booleans()):
        table = draw(damaged_value(table))
    else:
        table["__metadata__"]["stunet"] = json.dumps(draw(damaged_value(json.loads(table["__metadata__"]["stunet"]))))
    header = _json(table)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


@st.composite
def damaged_toml(draw: Draw, content: bytes) -> bytes:
    """TOML with odd values, or damaged bytes."""
    if draw(st.booleans()):
        return draw(damaged_bytes(content))
    lines = content.split(b"\n")
    settings = [number for number, line in enumerate(lines) if b" = " in line]
    for number in draw(st.lists(st.sampled_from(settings), min_size=1, max_size=3)):
        name = lines[number].partition(b" = ")[0]
        lines[number] = name + b" = " + json.dumps(draw(odd_values), ensure_ascii=False).encode("utf-8", "replace")
    return b"\n".join(lines)
