"""Draw the packages of stunet on their floors, and who imports whom. `make house` writes docs/images/house.png.

The floors are those of import-linter's contract in pyproject.toml. Lines, imports and external libraries are read from
the source, so the picture always matches it. The description of a room is the first sentence of its docstring.
"""

import ast
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, Polygon
from matplotlib.textpath import TextPath

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
SOURCE = REPOSITORY / "src" / "stunet"
PICTURE = REPOSITORY / "docs" / "images" / "house.png"

GROUND = "plans"
"""This room and everything below it share the lowest row."""

PACKAGES = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
ROOMS = PACKAGES | {path.stem for path in SOURCE.glob("*.py")}
"""Packages and modules of stunet. Other names imported from it belong to `__init__.py`."""

PART_OF = {"cycler": "matplotlib", "tomli": None}
"""Packages that come with another one, or backport the standard library."""

WIDTH, MARGIN, GAP = 9.0, 0.25, 0.06  # inches, like everything that follows
HOUSE_HEIGHT, LOWEST_FLOOR, ROOF_HEIGHT = 6.3, 0.64, 0.95
NARROWEST_ROOM = 1.6
NAMES_LEFT, NAMES_ABOVE, NAMES_RIGHT, LARGEST_CELL = 1.2, 0.95, 0.4, 0.42
LINE_HEIGHT = 0.155
TEXT_SIZE = 8.5  # points
COLOURS = ("#b5656b", "#c97b5a", "#bf8d40", "#a0943f", "#74995a", "#559a83", "#4f8ba8", "#6678ad", "#86719f")
INK, PAPER = "#6b6b6b", "#fffdf9"

ABOUT_THE_HOUSE = (
    "The height of a floor and the width of a room grow with its lines of code (the number in its corner).\n"
    "In italics: libraries from outside that no other room imports. In several rooms: "
)

ABOUT_THE_IMPORTS = (
    "Who imports whom: the number says how many files of the room on the left import the room at the top. Nothing lies "
    "on this side of the steps: no room imports from its own floor, or from a floor above."
)


# Reading the source


@dataclass
class Room:
    """A package of stunet, or a module on the ground floor.

    Attributes:
        name: e.g. "imaging".
        lines: of all its Python files.
        purpose: first sentence of its docstring.
        imports: other room -> number of files here that import it.
        libraries: external packages that it imports.
    """

    name: str
    lines: int = 0
    purpose: str = ""
    imports: Counter[str] = field(default_factory=Counter)
    libraries: set[str] = field(default_factory=set)


def read_floors() -> list[list[str]]:
    """Names of the rooms on each floor, from the highest floor down to the ground."""
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in settings if contract["type"] == "layers")
    floors = [[room.strip().removeprefix("stunet.") for room in layer.split("|")] for layer in layers]
    ground = next(number for number, floor in enumerate(floors) if GROUND in floor)
    return [*floors[:ground], [room for floor in floors[ground:] for room in floor]]


def read_room(name: str) -> Room:
    """Everything that the source tells about a room."""
    room = Room(name)
    paths = [SOURCE / f"{name}.py"] if name not in PACKAGES else sorted((SOURCE / name).rglob("*.py"))
    for path in paths:
        text = path.read_text()
        tree = ast.parse(text)
        room.lines += len(text.splitlines())
        modules = [module.split(".") for module in imported_modules(tree)]
        room.imports.update({module[1] for module in modules if module[0] == "stunet"} & ROOMS - {name})
        room.libraries |= {module[0] for module in modules} - sys.stdlib_module_names - {"stunet"}
    room.purpose = first_sentence(ast.get_docstring(ast.parse(paths[0].read_text())) or "")
    room.libraries = {library for name in room.libraries if (library := PART_OF.get(name, name))}
    return room


def imported_modules(tree: ast.Module) -> Iterator[str]:
    """Names of stunet's modules and of external packages that a file imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "import_extra":
            yield ast.literal_eval(node.args[0]) if isinstance(node.args[0], ast.Constant) else "stunet.extras"


def first_sentence(docstring: str) -> str:
    """The first sentence, without the room's own name before a colon.

    >>> first_sentence("Networks: a tensor in, logits out. Not more.")
    'A tensor in, logits out'
    """
    sentence = docstring.partition("\n\n")[0].replace("\n", " ").replace("`", "").partition(". ")[0].rstrip(".")
    name, _, rest = sentence.partition(": ")
    sentence = rest if rest and " " not in name else sentence
    first_word = sentence.partition(" ")[0]
    return sentence[:1].upper() + sentence[1:] if first_word.islower() else sentence


def spread_libraries(rooms: Sequence[Room]) -> list[str]:
    """Libraries imported by several rooms. They are removed from the rooms."""
    users = Counter(library for room in rooms for library in room.libraries)
    several = {library for library, number in users.items() if number > 1}
    for room in rooms:
        room.libraries -= several
    return sorted(several, key=str.lower)


# Drawing


def draw(path: Path = PICTURE) -> Path:
    """Draw the house and write it.

    Args:
        path: of the PNG.

    Returns:
        `path`.
    """
    floors = [[read_room(name) for name in floor] for floor in read_floors()]
    rooms = [room for floor in floors for room in floor]
    several = spread_libraries(rooms)
    cell = min(LARGEST_CELL, (WIDTH - 2 * MARGIN - NAMES_LEFT - NAMES_RIGHT) / len(rooms))
    matrix_height = NAMES_ABOVE + cell * (len(rooms) - len(floors[-1]))
    height = ROOF_HEIGHT + HOUSE_HEIGHT + 0.7 + matrix_height + 2 * MARGIN
    figure = Figure(figsize=(WIDTH, height), facecolor=PAPER)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, height))
    axes.axis("off")
    bottom = draw_house(axes, floors, height - MARGIN)
    words = ABOUT_THE_HOUSE + ", ".join(several)
    place = WIDTH / 2, bottom - 0.08
    axes.text(*place, words, ha="center", va="top", fontsize=TEXT_SIZE, color=INK, linespacing=1.4)
    draw_imports(axes, floors, bottom - 0.7, cell)
    figure.savefig(path, dpi=170)
    return path


def draw_house(axes: Axes, floors: Sequence[Sequence[Room]], top: float) -> float:
    """Draw roof and floors from the top down. Returns the bottom of the house."""
    files = [path.read_text().splitlines() for path in SOURCE.rglob("*.py")]
    eaves = top - ROOF_HEIGHT
    roof = [(MARGIN - 0.1, eaves + GAP), (WIDTH / 2, top), (WIDTH - MARGIN + 0.1, eaves + GAP)]
    axes.add_patch(Polygon(roof, facecolor="#4a4a4a", edgecolor="none", joinstyle="round"))
    axes.text(WIDTH / 2, eaves + 0.46, "stunet", ha="center", va="center", fontsize=15, color="white", weight="bold")
    total = f"{sum(map(len, files)):,} lines in {len(files)} files"
    axes.text(WIDTH / 2, eaves + 0.2, total, ha="center", va="center", fontsize=9, color="white")
    lines = [sum(room.lines for room in floor) for floor in floors]
    y = eaves
    for number, (floor, colour) in enumerate(zip(floors, COLOURS, strict=False)):
        height = LOWEST_FLOOR + (HOUSE_HEIGHT - len(floors) * LOWEST_FLOOR) * lines[number] / sum(lines)
        y -= height
        draw_floor(axes, floor, y, height - GAP, colour)
    return y


def draw_floor(axes: Axes, floor: Sequence[Room], y: float, height: float, colour: str) -> None:
    """Draw rooms side by side. Part of the width is the same for all; the rest is proportional to their lines."""
    inner = WIDTH - 2 * MARGIN - GAP * (len(floor) - 1)
    narrowest = min(NARROWEST_ROOM, inner / len(floor) / 2)
    x, total = MARGIN, sum(room.lines for room in floor)
    for room in floor:
        width = narrowest + (inner - narrowest * len(floor)) * room.lines / total
        box = FancyBboxPatch((x, y), width, height, boxstyle="round,pad=0,rounding_size=0.05")
        box.set(facecolor=colour, edgecolor="none")
        axes.add_patch(box)
        draw_words(axes, room, x, y, width, height)
        x += width + GAP


def draw_words(axes: Axes, room: Room, x: float, y: float, width: float, height: float) -> None:
    """Write name and lines, and below them purpose and libraries, if they fit."""
    is_small = width < 1.3
    left, top = x + (0.07 if is_small else 0.1), y + height - 0.17
    axes.text(left, top, room.name, va="center", fontsize=9 if is_small else 11.5, color="white", weight="bold")
    number = (left, top - 0.18, "left") if is_small else (x + width - 0.08, top, "right")
    axes.text(*number[:2], f"{room.lines:,}", ha=number[2], va="center", fontsize=9, color="white")
    purpose = [(line, "normal") for line in wrapped(room.purpose, width - 0.2)]
    libraries = [(line, "italic") for line in wrapped(", ".join(sorted(room.libraries, key=str.lower)), width - 0.2)]
    space = 0 if is_small else int((height - 0.26) / LINE_HEIGHT)
    lines = next((lines for lines in (purpose + libraries, purpose, libraries) if len(lines) <= space), [])
    for row, (line, style) in enumerate(lines):
        axes.text(
            left, top - 0.18 - row * LINE_HEIGHT, line, va="center", fontsize=TEXT_SIZE, color="white", style=style
        )


def wrapped(text: str, width: float) -> list[str]:
    """Split the text into lines no wider than `width` inches."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and TextPath((0, 0), longer, size=TEXT_SIZE).get_extents().width <= width * 72:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def draw_imports(axes: Axes, floors: Sequence[Sequence[Room]], top: float, cell: float) -> None:
    """Draw the import table: one row per importing room, one column per imported room, with the number of files."""
    colours = {room.name: colour for floor, colour in zip(floors, COLOURS, strict=False) for room in floor}
    left, head = MARGIN + NAMES_LEFT, top - NAMES_ABOVE
    for column, (name, colour) in enumerate(colours.items()):
        place = left + (column + 0.4) * cell, head + 0.06
        axes.text(*place, name, rotation=45, ha="left", va="bottom", fontsize=9.5, color=colour)
    row = first_below = 0
    for floor, below in pairwise(floors):
        first_below += len(floor)
        width = 0 if below is floors[-1] else len(below)
        draw_step(axes, left + first_below * cell, head - row * cell, len(floor) * cell, width * cell)
        for room in floor:
            y = head - (row + 0.5) * cell
            axes.text(left - 0.1, y, room.name, ha="right", va="center", fontsize=10, color=colours[room.name])
            for column, name in enumerate(colours):
                place = left + (column + 0.5) * cell, y
                draw_count(axes, place, room.imports[name], colours[room.name], cell, column >= first_below)
            row += 1
    words = "\n".join(wrapped(ABOUT_THE_IMPORTS, first_below * cell * 0.45))
    axes.text(left + 0.1, head - row * cell, words, va="bottom", fontsize=TEXT_SIZE, color=INK, linespacing=1.4)


def draw_count(axes: Axes, place: tuple[float, float], files: int, colour: str, cell: float, is_allowed: bool) -> None:
    """A disc that grows with the number of files in it; a faint dot where an import would be allowed."""
    if files:
        axes.plot(*place, "o", color=colour, markersize=min(10 + 3 * files**0.5, cell * 68), markeredgewidth=0)
        axes.text(place[0], place[1] - 0.005, str(files), ha="center", va="center", fontsize=8, color="white")
    elif is_allowed:
        axes.plot(*place, ".", color="#e4dfd6", markersize=3)


def draw_step(axes: Axes, x: float, y: float, height: float, width: float) -> None:
    """One step of the line. No import may be to the left of it."""
    axes.plot([x, x, x + width], [y, y - height, y - height], color="#b9b2a6", linewidth=1)


if __name__ == "__main__":
    print(draw().relative_to(REPOSITORY))  # noqa: T201
