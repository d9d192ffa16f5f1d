"""Write ITK-SNAP's label description file, which gives names and colours to the integers of a label map.

One line per label: index, red, green, blue (0 to 255), opacity (0 to 1), visibility in slices, visibility of the
surface, and the name in quotation marks. ITK-SNAP reads it with Segmentation > Import Label Descriptions. Lines that
begin with # are comments (`ColorLabelTable::LoadFromFile` in its source).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from stunet.files import replacing
from stunet.labels.ontology import colour_of

CLEAR_LABEL = "Clear Label"
"""ITK-SNAP's name for label 0, which cannot be changed."""

HEADING = """\
################################################
# ITK-SnAP Label Description File
# Written by stunet
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################"""
"""Other programs (MRIcroGL) recognise the format by the second line."""


def write_itksnap_labels(path: str | Path, names: Mapping[int, str]) -> None:
    """Write names and colours. The colours are those of previews and of the label map's own table.

    Args:
        path: Usually ends in `.txt` or `.label`. It appears only when complete.
        names: Label -> structure. Label 0 is always written as ITK-SNAP's "Clear Label". Quotation marks in names
            become apostrophes, and line breaks become spaces.

    Raises:
        UserError: The file cannot be written.
    """
    with replacing(Path(path)) as temporary:
        temporary.write_text("\n".join([HEADING, *_lines(names), ""]), encoding="utf-8")


def _lines(names: Mapping[int, str]) -> Iterator[str]:
    yield _line(0, (0, 0, 0), is_shown=0, name=CLEAR_LABEL)
    for label, name in sorted(names.items()):
        if label:
            # ITK-SNAP rejects files with an empty name
            yield _line(label, colour_of(name, label), is_shown=1, name=" ".join(name.split()) or f"label {label}")


def _line(label: int, colour: tuple[int, int, int], is_shown: int, name: str) -> str:
    red, green, blue = colour
    text = name.replace('"', "'")
    return f'{label:5}  {red:4} {green:4} {blue:4}  {is_shown:4}  {is_shown:3} {is_shown:3}  "{text}"'
