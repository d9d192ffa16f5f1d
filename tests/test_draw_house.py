"""The picture of the house contains every room."""

import importlib.util
import re
from pathlib import Path

from matplotlib.image import imread

REPOSITORY = Path(__file__).resolve().parents[1]

specification = importlib.util.spec_from_file_location("draw_house", REPOSITORY / "docs" / "draw_house.py")
house = importlib.util.module_from_spec(specification)
specification.loader.exec_module(house)


def test_every_room_has_one_floor():
    on_floors = [room for floor in house.read_floors() for room in floor]
    assert sorted(on_floors) == sorted(house.ROOMS - {"__init__", "__main__"})


def test_lines_are_counted_and_imports_found():
    files = house.read_room("files")
    assert files.lines == len((house.SOURCE / "files.py").read_text().splitlines())
    assert files.imports == {"errors": 1}
    networks = house.read_room("networks")
    assert {"torch", "monai"} <= networks.libraries
    assert networks.purpose and "numpy" not in house.read_room("errors").libraries


def test_the_architecture_page_names_the_libraries_of_each_room():
    rooms = {name: house.read_room(name) for floor in house.read_floors() for name in floor}
    house.spread_libraries(list(rooms.values()))
    page = (REPOSITORY / "docs" / "architecture.md").read_text()
    rows = dict(re.findall(r"^\| \d \| `(\w+)` \|.*\| ?([^|]*) \|$", page, flags=re.MULTILINE))
    told = {name: set(libraries.lower().split(", ")) - {""} for name, libraries in rows.items()}
    assert told == {name: {library.lower() for library in rooms[name].libraries} for name in told}


def test_the_picture_is_drawn(tmp_path):
    path = house.draw(tmp_path / "house.png")
    height, width, _ = imread(path).shape
    assert width == 1530 and height > width
