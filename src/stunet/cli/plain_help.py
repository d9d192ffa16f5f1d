"""Readable help: `-i PATH...` instead of type names, and no hint for options without a default."""

import inspect
from collections.abc import Iterator
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import tyro

METAVARS: dict[type, str] = {Path: "PATH", str: "NAME", int: "N", float: "NUMBER"}
"""The placeholder for a value of a type, unless the option has its own."""

NO_DEFAULT = ("None", "False", "True", "")
"""Defaults not worth printing: the option is unset, or a switch is off or on."""


def make_plain(command: Any) -> None:
    """Give every option of a command and its nested dataclasses a plain placeholder and hint, in place."""
    for kind in _dataclasses_in(command):
        hints = inspect.get_annotations(kind)
        for name, annotation in hints.items():
            make_plain(annotation)
            hints[name] = Annotated[annotation, tyro.conf.arg(metavar=_metavar(annotation), help_behavior_hint=_hint)]
        kind.__annotations__ = hints


def _dataclasses_in(annotation: Any) -> Iterator[type]:
    """All dataclasses within a type, and their base classes, that were not processed before."""
    if isinstance(annotation, type) and is_dataclass(annotation):
        for kind in annotation.__mro__:
            if is_dataclass(kind) and "_has_plain_help" not in kind.__dict__:
                kind._has_plain_help = True  # type: ignore[attr-defined]
                yield kind
    elif get_origin(annotation) in (Annotated, Union, UnionType):
        for part in get_args(annotation):
            yield from _dataclasses_in(part)


def _hint(default: str) -> str:
    return "" if default in NO_DEFAULT else f"(default: {default})"


def _metavar(annotation: Any) -> str | None:
    """A placeholder; None if the type's default is readable, or the option has its own."""
    if get_origin(annotation) is Annotated:
        inner, *details = get_args(annotation)
        return None if any(getattr(detail, "metavar", None) for detail in details) else _metavar(inner)
    if get_origin(annotation) in (Union, UnionType):
        (inner, *others) = [part for part in get_args(annotation) if part is not type(None)]
        return None if others else _metavar(inner)
    if get_origin(annotation) is tuple:
        return _metavar_of_several(get_args(annotation))
    return METAVARS.get(annotation)


def _metavar_of_several(parts: tuple[Any, ...]) -> str | None:
    first = parts[0]
    if parts == (int, int, int):
        return "Z Y X"
    if parts[-1] is not Ellipsis:
        return None
    if get_origin(first) is Literal:
        return f"{{{','.join(get_args(first))}}}..."
    single = _metavar(first)
    return None if single is None else f"{single}..."
