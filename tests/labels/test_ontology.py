"""The 104 structures, compared with the files that they were taken from."""

import json
from itertools import combinations

import pytest

from stunet.labels.ontology import (
    COLOURS,
    GROUPS,
    LABELS,
    STRUCTURES,
    TOTALSEGMENTATOR_V1_LABELS,
    TOTALSEGMENTATOR_V2_LABELS,
    colour_of,
)

ANATOMY = {"bones": 59, "muscles": 10, "heart": 5, "vessels": 8, "organs": 22}


def test_both_numberings_hold_the_same_104_names():
    assert len(LABELS) == len(TOTALSEGMENTATOR_V1_LABELS) == 105
    assert LABELS[0] == TOTALSEGMENTATOR_V1_LABELS[0] == "background"
    assert set(LABELS) == set(TOTALSEGMENTATOR_V1_LABELS)
    assert len(set(LABELS)) == 105


def test_stunet_numbers_the_names_alphabetically():
    assert list(LABELS[1:]) == sorted(LABELS[1:])
    assert (LABELS[3], LABELS[40], LABELS[104]) == ("aorta", "liver", "vertebrae_T9")


def test_totalsegmentator_starts_with_the_spleen():
    assert TOTALSEGMENTATOR_V1_LABELS[1] == "spleen"
    assert TOTALSEGMENTATOR_V1_LABELS[104] == "urinary_bladder"


def test_numberings_equal_the_official_files(shared_data):
    facts = shared_data.parent / "facts"
    official = json.loads((facts / "label_orders.json").read_text())
    assert [official[str(label)] for label in range(105)] == list(LABELS)
    yaml = pytest.importorskip("yaml")
    groups = yaml.safe_load((facts / "groups.yaml").read_text())
    assert list(groups["totalsegmentator_v1_label_order"].values()) == list(TOTALSEGMENTATOR_V1_LABELS[1:])
    assert {group: set(names) for group, names in groups["groups"].items()} == {g: set(n) for g, n in GROUPS.items()}


def test_groups_share_out_all_structures():
    assert {group: len(names) for group, names in GROUPS.items()} == {
        "organs": 17,
        "vertebrae": 24,
        "cardiac": 18,
        "muscles": 21,
        "ribs": 24,
    }
    assert sorted(name for names in GROUPS.values() for name in names) == list(LABELS[1:])


def test_every_structure_is_found_where_people_look_for_it():
    found = {kind: [one.name for one in STRUCTURES if one.anatomy == kind] for kind in ANATOMY}
    assert {kind: len(names) for kind, names in found.items()} == ANATOMY
    assert {"rib_left_1", "vertebrae_C1", "hip_left", "sacrum"} <= set(found["bones"])
    assert all(name.startswith("heart_") for name in found["heart"])
    assert {"aorta", "iliac_vena_left", "pulmonary_artery", "inferior_vena_cava"} <= set(found["vessels"])
    assert {"liver", "brain", "colon", "trachea"} <= set(found["organs"])


def test_structures_carry_both_numbers():
    for structure in STRUCTURES:
        assert LABELS[structure.label] == structure.name
        assert TOTALSEGMENTATOR_V1_LABELS[structure.totalsegmentator_label] == structure.name
        assert structure.name in GROUPS[structure.group]


def test_colours_are_distinct_and_bright_enough_for_a_dark_scan():
    assert len(set(COLOURS.values())) == 104
    assert all(max(colour) > 110 for colour in COLOURS.values())


@pytest.mark.parametrize("pair", [("vertebrae_L1", "vertebrae_L2"), ("kidney_left", "liver"), ("aorta", "liver")])
def test_neighbours_can_be_told_apart(pair):
    first, second = (COLOURS[name] for name in pair)
    assert sum(abs(a - b) for a, b in zip(first, second, strict=True)) > 60


def test_unknown_classes_get_a_colour_by_their_number():
    colours = [colour_of(f"class_{label}", label) for label in range(1, 7)]
    assert all(a != b for a, b in combinations(colours, 2))
    assert colour_of("class_7", 7) == colours[0]


def test_version_2_equals_the_official_file(shared_data):
    example = shared_data / "totalseg_example"
    table = json.loads((example / "label_mapping.json").read_text())["ct_v2_117_to_104"]
    classes = table["mapped"] + table["v2_without_counterpart_to_background"]
    assert {entry["src_id"]: entry["src_name"] for entry in classes} == dict(
        enumerate(TOTALSEGMENTATOR_V2_LABELS[1:], start=1)
    )
    assert len(TOTALSEGMENTATOR_V2_LABELS) == 118
    assert set(LABELS) - set(TOTALSEGMENTATOR_V2_LABELS) == set(table["stunet104_never_produced"])
