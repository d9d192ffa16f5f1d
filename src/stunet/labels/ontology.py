"""The 104 structures of TotalSegmentator v1, in both numberings, with groups and colours.

The data is in `structures.csv` next to this file, one row per structure:

- `stunet`: the integer in STU-Net's published weights, which number the names alphabetically.
- `totalsegmentator_v1`: the integer in TotalSegmentator v1's own label maps (tag v1.5.7, `map_to_binary.py`).
- `group`: the part model of TotalSegmentator v1 with the structure, which is its group in the paper's Table 3. Group
  names mislead: `cardiac` contains the bowel and the brain, `muscles` bones, `organs` the aorta.
- `anatomy`: ours, by which people look for a structure: bones, muscles, heart, vessels, and organs for all others.
- `colour`: our own. Paired structures share a hue, and neighbouring vertebrae and ribs alternate in lightness.
"""

import csv
from dataclasses import dataclass
from importlib.resources import files

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

BACKGROUND = "background"
"""Label 0 of every label map; not a structure."""


@dataclass(frozen=True)
class Structure:
    """One anatomical structure.

    Attributes:
        name: TotalSegmentator v1's name, e.g. "kidney_left".
        label: its integer in STU-Net's numbering, 1 to 104.
        totalsegmentator_label: its integer in TotalSegmentator v1's numbering, 1 to 104.
        group: one of the names in `GROUPS`.
        anatomy: bones, muscles, heart, vessels or organs.
        colour: colour in pictures and viewers.
    """

    name: str
    label: int
    totalsegmentator_label: int
    group: str
    anatomy: str
    colour: Colour


def _read_structures() -> tuple[Structure, ...]:
    table = files(__package__).joinpath("structures.csv").read_text(encoding="utf-8")
    return tuple(
        Structure(
            name=row["name"],
            label=int(row["stunet"]),
            totalsegmentator_label=int(row["totalsegmentator_v1"]),
            group=row["group"],
            anatomy=row["anatomy"],
            colour=_parse_colour(row["colour"]),
        )
        for row in csv.DictReader(table.splitlines())
    )


def _parse_colour(text: str) -> Colour:
    """`"#ff8000"` -> (255, 128, 0)."""
    red, green, blue = bytes.fromhex(text.removeprefix("#"))
    return red, green, blue


STRUCTURES: tuple[Structure, ...] = _read_structures()
"""All structures, in the order of STU-Net's numbering."""

LABELS: tuple[str, ...] = (BACKGROUND, *(s.name for s in STRUCTURES))
"""Names by integer in STU-Net's numbering: `LABELS[3]` is "aorta". 105 entries, background first."""

TOTALSEGMENTATOR_V1_LABELS: tuple[str, ...] = (
    BACKGROUND,
    *(s.name for s in sorted(STRUCTURES, key=lambda s: s.totalsegmentator_label)),
)
"""Names by integer in TotalSegmentator v1's numbering: `TOTALSEGMENTATOR_V1_LABELS[1]` is "spleen"."""


def _read_version_2() -> tuple[str, ...]:
    table = files(__package__).joinpath("totalsegmentator_v2.csv").read_text(encoding="utf-8")
    names = {int(row["label"]): row["name"] for row in csv.DictReader(table.splitlines())}
    return (BACKGROUND, *(names[label] for label in range(1, len(names) + 1)))


TOTALSEGMENTATOR_V2_LABELS: tuple[str, ...] = _read_version_2()
"""Names by integer in TotalSegmentator v2's task `total`: 117 classes, 97 of them among the 104.

It lacks the other 7 of the 104 (the face, the pulmonary artery and five parts of the heart).
"""

_GROUP_ORDER = ("organs", "vertebrae", "cardiac", "muscles", "ribs")  # the columns of Table 3

GROUPS: dict[str, tuple[str, ...]] = {
    group: tuple(s.name for s in STRUCTURES if s.group == group) for group in _GROUP_ORDER
}
"""The five groups of Table 3: 17, 24, 18, 21 and 24 names."""

COLOURS: dict[str, Colour] = {s.name: s.colour for s in STRUCTURES}
"""The colour of each structure by name."""

# Colours of classes that are not TotalSegmentator structures: Paul Tol's colour-blind safe "bright" scheme.
_SPARE_COLOURS: tuple[Colour, ...] = (
    (238, 102, 119),
    (102, 204, 238),
    (204, 187, 68),
    (34, 136, 51),
    (170, 51, 119),
    (68, 119, 170),
)


def colour_of(name: str, label: int) -> Colour:
    """The colour of a structure, or for other classes a colour chosen by the integer.

    Args:
        name: a class name, ours or another dataset's.
        label: its integer, 1 or more.

    >>> colour_of("aorta", 3) == COLOURS["aorta"]
    True
    >>> colour_of("Anterior", 1)
    (238, 102, 119)
    """
    return COLOURS.get(name, _SPARE_COLOURS[(label - 1) % len(_SPARE_COLOURS)])
