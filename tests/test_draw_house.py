"""The picture of the house: it finds every room by itself."""

import importlib.util
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


def test_the_picture_is_drawn(tmp_path):
    path = house.draw(tmp_path / "house.png")
    height, width, _ = imread(path).shape
    assert width == 1530 and height > width
