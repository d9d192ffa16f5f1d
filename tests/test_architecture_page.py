"""All files, functions, types and floors named in docs/architecture.md exist."""

import ast
import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "stunet"
PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()

NO_TYPES = {"TMPDIR"}
"""Capitalised words that are not names in the source."""


def names_in(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """Names that statements define, each with the names defined inside."""
    found: dict[str, list[ast.stmt]] = {}
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            found[node.name] = node.body if isinstance(node, ast.ClassDef) else []
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {target.id: [] for target in targets if isinstance(target, ast.Name)}
    return found


def is_defined(path: Path, dotted: str) -> bool:
    body = ast.parse(path.read_text()).body
    for name in dotted.split("."):
        defined = names_in(body)
        if name not in defined:
            return False
        body = defined[name]
    return True


def missing_functions(page: str) -> list[str]:
    """References such as `room/file.py`, `room/file.py:name` and `stunet.room.file.name` that do not exist."""
    missing = []
    for file, _, name in re.findall(r"`([\w/]+\.py)(:([\w.]+))?`", page):
        path = next((root / file for root in (SOURCE, REPOSITORY) if (root / file).is_file()), None)
        path = path or next(SOURCE.rglob(file), None)  # a page may leave out the room if it was just named
        if path is None or (name and not is_defined(path, name)):
            missing.append(f"{file}:{name}")
    for dotted in re.findall(r"`stunet\.([\w.]+)`", page):
        if not is_importable(dotted.split(".")):
            missing.append(f"stunet.{dotted}")
    return missing


def is_importable(parts: list[str]) -> bool:
    for length in range(len(parts), 0, -1):
        place = SOURCE.joinpath(*parts[:length])
        if place.with_suffix(".py").is_file():
            return length == len(parts) or is_defined(place.with_suffix(".py"), ".".join(parts[length:]))
        if place.is_dir():
            return length == len(parts)
    return False


def test_every_function_that_the_page_names_exists():
    assert len(re.findall(r"`[\w/]+\.py:", PAGE)) > 30
    assert missing_functions(PAGE) == []


def test_every_type_that_the_page_names_exists():
    types = set(re.findall(r"`([A-Z]\w+)`", PAGE)) - NO_TYPES
    assert len(types) > 20
    defined = {name for path in SOURCE.rglob("*.py") for name in names_in(ast.parse(path.read_text()).body)}
    assert types - defined == set()


def test_what_does_not_exist_is_found():
    page = "`inference/predictor.py:Predictor.predict` `weights/model.py:lode_model` `nowhere/file.py` `stunet.imagine`"
    assert missing_functions(page) == ["weights/model.py:lode_model", "nowhere/file.py:", "stunet.imagine"]


def test_the_floors_of_the_page_are_those_that_import_linter_checks():
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    checked = [{room.strip().removeprefix("stunet.") for room in layer.split("|")} for layer in layers]
    rows = re.findall(r"^\| (\d) \| ([^|]+) \|", PAGE, flags=re.MULTILINE)
    told: dict[str, set[str]] = {}
    for floor, rooms in rows:
        told.setdefault(floor, set()).update(re.findall(r"`(\w+)`", rooms))
    assert list(told) == sorted(told, reverse=True)
    ground = next(number for number, rooms in enumerate(checked) if "plans" in rooms)
    assert [*told.values()][:-1] == checked[:ground]
    assert told["0"] == set().union(*checked[ground:])
