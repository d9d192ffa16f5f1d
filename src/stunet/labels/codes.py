"""DICOM codes of structures: SNOMED CT with laterality, and a user's own codes from a TOML file.

The codes of the 104 structures are in `codes.csv` next to this file, one row per structure. They come from
TotalSegmentator's mapping, with DICOM's code meanings where DICOM has the code. The side is a separate modifier:
without it, the left and right kidney would have the same code.
"""

import csv
import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from stunet.errors import FileError, UnknownNameError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SNOMED = "SCT"
"""DICOM's name for SNOMED CT."""

PRIVATE_SCHEME = "99STUNET"
"""The coding scheme of classes without a code, only to distinguish them."""

LONGEST_VALUE, LONGEST_MEANING = 16, 64
"""The most characters that DICOM allows in a code or scheme, and in a meaning or name."""


@dataclass(frozen=True)
class Code:
    """A coded concept.

    Attributes:
        value: the code, such as "64033007".
        scheme: the coding scheme, such as "SCT".
        meaning: the text, such as "Kidney".
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class StructureCode:
    """The codes of a structure.

    Attributes:
        category: general category, one of `CATEGORIES`.
        kind: the type of structure.
        side: left or right; None if the kind includes it or there is only one.
    """

    category: Code
    kind: Code
    side: Code | None = None


SIDES = {"left": Code("7771000", SNOMED, "Left"), "right": Code("24028007", SNOMED, "Right")}

CATEGORIES = {
    "structure": Code("91723000", SNOMED, "Anatomical Structure"),
    "tissue": Code("85756007", SNOMED, "Tissue"),
    "abnormality": Code("49755003", SNOMED, "Morphologically Abnormal Structure"),
}
"""Categories of segments by their names in TOML files."""

_FIELDS = ("code", "scheme", "meaning", "laterality", "category")


def _read_codes_of_structures() -> dict[str, StructureCode]:
    table = files(__package__).joinpath("codes.csv").read_text(encoding="utf-8")
    return {
        row["name"]: StructureCode(
            CATEGORIES["structure"], Code(row["snomed"], SNOMED, row["meaning"]), SIDES.get(row["laterality"])
        )
        for row in csv.DictReader(table.splitlines())
    }


CODES: Mapping[str, StructureCode] = _read_codes_of_structures()
"""The code of each of the 104 structures by name."""


def code_of(name: str, own: Mapping[str, StructureCode]) -> StructureCode:
    """The code of a structure: the user's own, that of one of the 104, or a private code derived from its name.

    Args:
        name: name of the structure.
        own: the result of `read_codes`.

    >>> code_of("kidney_left", {}).kind.meaning, code_of("kidney_left", {}).side.meaning
    ('Kidney', 'Left')
    >>> code_of("Anterior", {}).kind
    Code(value='D97F1097B8F3', scheme='99STUNET', meaning='Anterior')
    """
    known = own.get(name) or CODES.get(name)
    if known is not None:
        return known
    value = hashlib.sha1(name.encode(), usedforsecurity=False).hexdigest()[:12].upper()
    return StructureCode(CATEGORIES["tissue"], Code(value, PRIVATE_SCHEME, dicom_name(name)))


def dicom_name(name: str) -> str:
    r"""Convert a name to DICOM's form: one line of at most 64 characters, without backslashes.

    >>> dicom_name("left\\right  lung")
    'left/right lung'
    """
    return " ".join(name.replace("\\", "/").split())[:LONGEST_MEANING] or "unnamed"


def read_codes(path: str | Path, names: Iterable[str] | None = None) -> dict[str, StructureCode]:
    """Read a user's own codes.

    Args:
        path: a TOML file with one table per structure, with `code` and `meaning`, and optionally `scheme` (SNOMED by
            default; private ones begin with 99), `laterality` ("left" or "right") and `category` (one of `CATEGORIES`,
            "structure" by default).
        names: names of the allowed structures; any by default.

    Raises:
        UserError: the file cannot be read, a field is missing, unknown or too long, or a structure is unknown.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise FileError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except ValueError as error:
        raise FileError(f"{path}: is not valid TOML ({error}).") from error
    codes = {name: _structure_code(path, name, table) for name, table in content.items()}
    if names is not None:
        require_known(codes, names)
    return codes


def require_known(codes: Mapping[str, StructureCode], names: Iterable[str]) -> None:
    """Refuse codes of structures that a model does not have.

    Raises:
        UserError: a structure is unknown; the message names it and the known ones.
    """
    known = list(names)
    for name in codes:
        if name not in known:
            raise UnknownNameError.of("structure", name, known)


def _structure_code(path: Path, name: str, table: Any) -> StructureCode:
    """Parse one table of a TOML file."""
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise FileError(f"{path}: {name!r} needs its own table, [{name}], with the texts code and meaning.")
    for field in table:
        if field not in _FIELDS:
            raise FileError(f"{path}: [{name}] has an unknown field {field!r}; known fields: {', '.join(_FIELDS)}.")
    for field in ("code", "meaning"):
        if not table.get(field, "").strip():
            raise FileError(f"{path}: [{name}] has no {field}.")
    kind = Code(table["code"], table.get("scheme", SNOMED), table["meaning"])
    _require_lengths(path, name, kind)
    category = _one_of(path, name, "category", table.get("category", "structure"), CATEGORIES)
    side = table.get("laterality")
    return StructureCode(category, kind, _one_of(path, name, "laterality", side, SIDES) if side else None)


def _require_lengths(path: Path, name: str, kind: Code) -> None:
    longest = {"code": LONGEST_VALUE, "scheme": LONGEST_VALUE, "meaning": LONGEST_MEANING}
    for (field, letters), text in zip(longest.items(), (kind.value, kind.scheme, kind.meaning), strict=True):
        if len(text) > letters or "\\" in text:
            raise FileError(f"{path}: [{name}] {field} {text!r} has more than {letters} characters, or a backslash.")


def _one_of(path: Path, name: str, field: str, value: str, known: Mapping[str, Code]) -> Code:
    if value not in known:
        raise FileError(f"{path}: [{name}] {field} is one of {', '.join(known)}, not {value!r}.")
    return known[value]
