"""Codes of structures, compared with DICOM's dictionaries, and a user's own codes."""

from pathlib import Path

import pytest
from pydicom.sr._concepts_dict import concepts
from pydicom.sr.codedict import codes

from stunet.errors import UserError
from stunet.labels.codes import CATEGORIES, CODES, SIDES, SNOMED, Code, code_of, dicom_name, read_codes
from stunet.labels.ontology import LABELS

KNOWN = {
    value: meaning
    for entries in concepts["SCT"].values()
    for value, (meaning, _) in sorted(entries.items(), reverse=True)
}
"""SNOMED codes of DICOM's context groups, with one of their meanings."""


def meanings(value: str) -> set[str]:
    return {entries[value][0].lower() for entries in concepts["SCT"].values() if value in entries}


def test_all_104_have_a_code_of_their_own() -> None:
    assert set(CODES) == set(LABELS[1:])
    assert len(set(CODES.values())) == 104


def test_sides_are_those_of_the_names() -> None:
    left, right = (Code(code.value, code.scheme_designator, code.meaning) for code in (codes.SCT.Left, codes.SCT.Right))
    assert {"left": left, "right": right} == SIDES
    for name, code in CODES.items():
        side = next((word for word in ("left", "right") if word in name.split("_")), None)
        said = code.side.meaning.lower() if code.side else None
        assert said == side or (said is None and side in code.kind.meaning.lower()), name
        if said == "left":
            assert CODES[name.replace("left", "right")].kind == code.kind


def test_the_meanings_are_those_of_dicom() -> None:
    found = [code.kind for code in CODES.values() if code.kind.value in KNOWN]
    assert (
        len(found) == 104 - 24 - 12
    )  # DICOM has no codes for ribs and muscles, the myocardium, the portal and splenic vein
    for code in found:
        assert code.scheme == SNOMED and code.meaning.lower() in meanings(code.value), code
    for category in CATEGORIES.values():
        assert category.value not in KNOWN or category.meaning.lower() in meanings(category.value)


def test_texts_fit_into_dicom() -> None:
    for name, code in CODES.items():
        assert len(code.kind.value) <= 16 and len(code.kind.meaning) <= 64 and dicom_name(name) == name


def test_a_class_without_a_code_gets_a_private_one() -> None:
    one, other = code_of("Anterior", {}).kind, code_of("Posterior", {}).kind
    assert one.scheme == other.scheme == "99STUNET" and one.value != other.value
    assert code_of("Anterior", {}) == code_of("Anterior", {})


def test_own_codes(tmp_path: Path) -> None:
    path = tmp_path / "codes.toml"
    path.write_text(
        '[tumour]\ncode = "108369006"\nmeaning = "Neoplasm"\ncategory = "abnormality"\nlaterality = "right"\n'
        '["duct, left"]\ncode = "D1"\nscheme = "99CLINIC"\nmeaning = "Duct"\n'
        '[liver]\ncode = "L1"\nmeaning = "Our liver"\n'
    )
    own = read_codes(path, ["tumour", "duct, left", "liver"])
    assert code_of("tumour", own).kind == Code("108369006", "SCT", "Neoplasm")
    assert (
        code_of("tumour", own).category == CATEGORIES["abnormality"] and code_of("tumour", own).side == SIDES["right"]
    )
    assert code_of("duct, left", own).kind.scheme == "99CLINIC" and code_of("duct, left", own).side is None
    assert code_of("liver", own).kind.meaning == "Our liver"
    with pytest.raises(UserError, match="no structure 'tumour'"):
        read_codes(path, ["liver"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[a\n", "not valid TOML"),
        ("a = 1\n", r"'a' needs its own table"),
        ('[a]\ncode = 12\nmeaning = "x"\n', r"'a' needs its own table"),
        ('[a]\ncode = "1"\n', r"\[a\] has no meaning"),
        ('[a]\ncode = "12345678901234567"\nmeaning = "x"\n', r"\[a\] code .* more than 16"),
        ('[a]\ncode = "1"\nmeaning = "x"\nside = "left"\n', r"unknown field 'side'"),
        ('[a]\ncode = "1"\nmeaning = "x"\nlaterality = "both"\n', "laterality is one of left, right"),
        ('[a]\ncode = "1"\nmeaning = "x"\ncategory = "organ"\n', "category is one of structure"),
    ],
)
def test_files_that_are_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "codes.toml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        read_codes(path)
    assert str(path) in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_codes(tmp_path / "none.toml")
