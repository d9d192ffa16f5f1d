"""The tolerances of the normalised surface distance in mm: how far apart two surfaces may be and still agree."""

import csv
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from stunet.errors import FileError, UnknownNameError

TOLERANCE_MM = 3.0
"""For structures without their own tolerance; TotalSegmentator's published evaluation uses it for all structures
(Wasserthal et al. 2023, Radiology: Artificial Intelligence 5(5):e230024)."""

FLARE22_MM = {
    "liver": 5.0,
    "kidney_right": 3.0,
    "spleen": 3.0,
    "pancreas": 5.0,
    "aorta": 2.0,
    "inferior_vena_cava": 2.0,
    "adrenal_gland_right": 2.0,
    "adrenal_gland_left": 2.0,
    "gallbladder": 2.0,
    "esophagus": 3.0,
    "stomach": 5.0,
    "duodenum": 7.0,
    "kidney_left": 3.0,
}
"""Tolerances of the FLARE 2022 challenge (its FLARE22_DSC_NSD_Eval.py), by TotalSegmentator's names."""


@dataclass(frozen=True)
class Tolerances:
    """The tolerance of each structure.

    Attributes:
        default_mm: tolerance of structures that are not named.
        named_mm: structure to tolerance.
        source: where they come from, shown in reports.
    """

    default_mm: float = TOLERANCE_MM
    named_mm: Mapping[str, float] = field(default_factory=dict)
    source: str = "TotalSegmentator's evaluation (Wasserthal et al. 2023)"

    def of(self, name: str) -> float:
        """The tolerance of a structure; "right kidney" and "kidney_right" are the same name."""
        named = {_plain(known): mm for known, mm in self.named_mm.items()}
        return named.get(_plain(name), self.default_mm)

    def told(self, names: Iterable[str]) -> str:
        """A description of the tolerances of some structures and their source.

        >>> Tolerances(3.0, {"liver": 5.0}, "ours").told(["liver", "spleen", "aorta"])
        'tolerance 3 mm (spleen, aorta), 5 mm (liver), by ours'
        """
        by_mm: dict[float, list[str]] = {}
        for name in names:
            by_mm.setdefault(self.of(name), []).append(name)
        if len(by_mm) == 1:
            return f"tolerance {next(iter(by_mm)):g} mm, by {self.source}"
        listed = ", ".join(f"{mm:g} mm ({', '.join(by_mm[mm])})" for mm in sorted(by_mm))
        return f"tolerance {listed}, by {self.source}"


TOLERANCES: dict[str, Tolerances] = {
    "totalsegmentator": Tolerances(),
    "flare22": Tolerances(named_mm=FLARE22_MM, source="the FLARE 2022 challenge; 3 mm for other structures"),
}
"""Published tables of tolerances by name."""


def read_tolerances(text: str) -> Tolerances:
    """Parse the tolerances of a command: mm for all structures, a name in `TOLERANCES`, or a CSV file.

    The file has one structure per line, such as `liver,5`; an optional line `default,3` is for all others.

    Raises:
        UserError: the text is none of these.
    """
    if text in TOLERANCES:
        return TOLERANCES[text]
    if text.lower().endswith(".csv"):
        return _read_file(Path(text))
    try:
        return Tolerances(_millimetres(text), source="choice")
    except ValueError as error:
        raise UnknownNameError(
            f"The tolerance {text!r} is not valid: give millimetres, {', '.join(TOLERANCES)}, or a .csv file with a "
            "structure and its millimetres on each line."
        ) from error


def _read_file(path: Path) -> Tolerances:
    try:
        rows = [row for row in csv.reader(path.read_text(encoding="utf-8").splitlines()) if row]
        named = {name.strip(): _millimetres(mm) for name, mm in rows}
    except OSError as error:
        raise FileError(f"{path} cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise FileError(f"{path} should have a structure and its tolerance in mm on each line ({error}).") from error
    return Tolerances(named.pop("default", TOLERANCE_MM), named, source=path.name)


def _millimetres(text: str) -> float:
    mm = float(text)
    if not 0 <= mm < math.inf:
        raise ValueError(f"{text.strip()} is not a distance")
    return mm


def _plain(name: str) -> frozenset[str]:
    return frozenset(name.lower().replace("_", " ").split())
