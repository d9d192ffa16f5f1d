import re
from pathlib import Path

import pytest

from stunet.errors import UserError
from stunet.imaging.formats.itksnap import write_itksnap_labels
from stunet.labels.ontology import COLOURS, LABELS, colour_of

LINE = re.compile(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+([\d.]+)\s+([01])\s+([01])\s+"([^"]+)"')
"""IDX R G B A VIS MSH LABEL, as ITK-SNAP's header comment documents the columns."""


def parsed(path: Path) -> dict[int, tuple[tuple[int, ...], float, str, str, str]]:
    """Label to colour, opacity, visibility, visibility of the surface, and name."""
    entries = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            found = LINE.fullmatch(line)
            assert found, line
            index, red, green, blue, alpha, visible, mesh, name = found.groups()
            assert int(index) not in entries
            entries[int(index)] = ((int(red), int(green), int(blue)), float(alpha), visible, mesh, name)
    return entries


def test_the_104_structures(tmp_path):
    write_itksnap_labels(tmp_path / "labels.txt", dict(enumerate(LABELS)))
    entries = parsed(tmp_path / "labels.txt")
    assert list(entries) == list(range(105))
    assert entries[0] == ((0, 0, 0), 0.0, "0", "0", "Clear Label")
    assert entries[3] == (COLOURS["aorta"], 1.0, "1", "1", "aorta")
    assert [entry[-1] for entry in entries.values()][1:] == list(LABELS)[1:]
    assert "# ITK-SnAP Label Description File" in (tmp_path / "labels.txt").read_text().splitlines()


def test_any_names_and_labels(tmp_path):
    write_itksnap_labels(tmp_path / "labels.txt", {65535: 'a "b"\nc', 7: " ", 2: "Läsion"})
    entries = parsed(tmp_path / "labels.txt")
    assert {label: entry[-1] for label, entry in entries.items()} == {
        0: "Clear Label",
        2: "Läsion",
        7: "label 7",
        65535: "a 'b' c",
    }
    assert entries[2][0] == colour_of("Läsion", 2)


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="cannot be written"):
        write_itksnap_labels(tmp_path / "absent" / "labels.txt", {1: "liver"})
