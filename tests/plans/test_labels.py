"""The labels of a dataset.json, of every kind that nnU-Net v2 knows, against its own LabelManager."""

import json

import pytest

from stunet.errors import UserError
from stunet.plans.labels import LabelTable, Region, label_table, read_label_table, regions_from

CONTENTS = {
    "plain": ({"background": 0, "a": 1, "b": 2}, None, LabelTable({1: "a", 2: "b"})),
    "with gaps": ({"background": 0, "a": 7}, None, LabelTable({7: "a"})),
    "a list of one": ({"background": 0, "a": [1]}, None, LabelTable({1: "a"})),
    "ignore": ({"background": 0, "a": 1, "ignore": 2}, None, LabelTable({1: "a"}, {}, 2)),
    "regions": (
        {"background": 0, "whole": [1, 2], "part": 2, "ignore": 3},
        [1, 2],
        LabelTable({1: "whole", 2: "part"}, {1: (1, 2), 2: (2,)}, 3),
    ),
    "painted in another order": (
        {"background": 0, "part": [3], "whole": [1, 2, 3]},
        [3, 1],
        LabelTable({3: "part", 1: "whole"}, {3: (3,), 1: (1, 2, 3)}),
    ),
}


def content(labels, order):
    return {"labels": labels, **({} if order is None else {"regions_class_order": order})}


@pytest.mark.parametrize("kind", CONTENTS)
def test_labels(kind):
    labels, order, expected = CONTENTS[kind]
    assert label_table(content(labels, order)) == expected


@pytest.mark.parametrize("kind", CONTENTS)
def test_as_nnunet_understands_them(kind):
    handling = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    labels, order, expected = CONTENTS[kind]
    manager = handling.LabelManager(labels, order)
    assert manager.ignore_label == expected.ignored
    theirs = manager.foreground_regions if manager.has_regions else manager.foreground_labels
    theirs = [one if isinstance(one, tuple) else (one,) for one in theirs]
    if kind != "a list of one":  # nnU-Net 2.8 keeps such a list a list
        assert [expected.members.get(label, (label,)) for label in expected.names] == theirs


@pytest.mark.parametrize(
    ("labels", "order", "sentence"),
    [
        ({"0": "background", "1": "liver"}, None, r"nnU-Net v1.*\{\"background\": 0, \"liver\": 1\}"),
        ({"background": 0, "whole": [1, 2]}, None, "'regions_class_order' must be a list of 1 integers"),
        ({"background": 0, "whole": [1, 2], "part": 2}, [1], "list of 2 integers.*it is \\[1\\]"),
        ({"background": 0, "whole": [1, 2], "part": 2}, [1, 1], "the same integer"),
        ({"background": 0, "whole": "x"}, None, "no integers"),
        ({}, None, "no table of labels"),
        ([1], None, "no table of labels"),
    ],
)
def test_what_is_refused(tmp_path, labels, order, sentence):
    file = tmp_path / "dataset.json"
    file.write_text(json.dumps(content(labels, order)))
    with pytest.raises(UserError, match=sentence) as refusal:
        read_label_table(file)
    assert str(file) in str(refusal.value)


def test_an_impossible_region():
    with pytest.raises(ValueError, match="above 0"):
        Region(0, (1,))
    assert regions_from({"background": 0, "all": [0, 1]}, [1]) == {"all": Region(1, (0, 1))}
