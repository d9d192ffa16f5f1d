"""Lookup tables, and invalid mapping files."""

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.labels.mapping import NUMBERINGS, load_mapping, remap_labels
from stunet.labels.ontology import LABELS

VALID = """
title = "Mine"
cases = 2
source = "https://example.org"
licence = "CC0"
ids_from = "its README"

[unused_labels]
tumour = 9

[[targets]]
name = "kidney"
labels = [1, 2]
structures = ["kidney_left", "kidney_right"]
"""


@pytest.fixture
def mine(tmp_path):
    def write(text):
        (tmp_path / "mine.toml").write_text(text)
        return tmp_path / "mine.toml"

    return write


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int64])
def test_remapping_equals_voxel_by_voxel(dtype):
    table = {1: 3, 2: 1, 5: 0, 77: 1}
    labels_ZYX = np.random.default_rng(0).choice([0, *table], (4, 5, 6)).astype(dtype)
    remapped = remap_labels(labels_ZYX, table)
    assert remapped.dtype == np.uint8
    expected = [table.get(int(label), 0) for label in labels_ZYX.ravel()]
    assert remapped.ravel().tolist() == expected


def test_labels_without_an_entry():
    with pytest.raises(ValueError, match="label 4 is not in the mapping"):
        remap_labels(np.array([0, 1, 4]), {1: 1, 9: 2})
    with pytest.raises(ValueError, match="label 300, 301 is not in the mapping"):
        remap_labels(np.array([301, 1, 300]), {1: 1})
    with pytest.raises(ValueError, match="-1 is negative"):
        remap_labels(np.array([0, -1]), {1: 1})
    with pytest.raises(ValueError, match="not float32"):
        remap_labels(np.zeros(2, np.float32), {1: 1})
    assert remap_labels(np.zeros((0, 3), int), {}).shape == (0, 3)


def test_a_file_of_ones_own(mine):
    mapping = load_mapping(mine(VALID))
    assert (mapping.name, mapping.target_names, mapping.unused_labels) == ("mine", {1: "kidney"}, {9: "tumour"})
    assert mapping.reference_table() == {1: 1, 2: 1, 9: 0}
    assert mapping.table9_row is None


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("cases = 2\n", "", "the file lacks cases"),
        ("cases = 2", 'cases = "2"', "cases of the file should be of type int, not str"),
        ("cases = 2", "cases = 2\ncase = 3", "the file has the unknown entry 'case'"),
        ("cases = 2", "cases = ", "Invalid value"),
        ("[1, 2]", '[1, "2"]', r"labels of target 1 \(kidney\) should all be of type int"),
        ("[1, 2]", "[]", "the target kidney has no label"),
        ("[1, 2]", "[1, 0]", "labels are 1 to 65535"),
        ("[1, 2]", "[1, 9]", "the label 9 is listed twice"),
        ("kidney_right", "kidney_up", "kidney_up is not one of the 104 structures"),
        ("kidney_right", "kidney_left", "the structure kidney_left is listed twice"),
        ('name = "kidney"\n', "", "target 1 lacks name"),
        (VALID[VALID.index("[[targets]]") :], "[targets]", "targets of the file should be of type list"),
        ("tumour = 9", 'tumour = "9"', "unused_labels should all be of type int"),
    ],
)
def test_files_that_are_wrong(mine, old, new, sentence):
    assert old in VALID
    with pytest.raises(UserError, match=rf"mine\.toml is not a valid mapping: .*{sentence}"):
        load_mapping(mine(VALID.replace(old, new)))


def test_unknown_names(tmp_path):
    with pytest.raises(
        UserError,
        match=r"no mapping 'bctv'\. Did you mean 'btcv'\? Known names: msd_liver, .*segthor, totalsegmentator",
    ):
        load_mapping("bctv")
    with pytest.raises(UserError, match=r"lost\.toml cannot be read \(No such file"):
        load_mapping(tmp_path / "lost.toml")


@pytest.mark.parametrize("numbering", NUMBERINGS)
def test_every_numbering_finds_the_same_targets(numbering):
    mapping, names = load_mapping("btcv"), NUMBERINGS[numbering]
    table = mapping.prediction_table(names)
    assert len(table) == len(names)
    assert {names[label]: target for label, target in table.items() if target} == {
        LABELS[label]: target for label, target in mapping.prediction_table(LABELS).items() if target
    }


def test_targets_of_which_a_model_lacks_a_class():
    mapping = load_mapping("ct_org")
    assert mapping.evaluable() == ("liver", "urinary_bladder", "lung", "kidney", "brain")
    assert mapping.evaluable(["background", "liver", "kidney_left", "brain"]) == ("liver", "brain")
