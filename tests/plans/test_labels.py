"""All kinds of labels in a dataset.json, compared with nnU-Net v2's LabelManager."""

import json
import re

import numpy as np
import pytest

from stunet.errors import UserError
from stunet.plans.labels import LabelTable, Region, label_problems, label_table, read_label_table, regions_from

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
    if kind != "a list of one":  # nnU-Net 2.8 keeps the list
        assert [expected.members.get(label, (label,)) for label in expected.names] == theirs


@pytest.mark.parametrize("kind", CONTENTS)
def test_what_a_label_map_may_hold(kind):
    """All labels including the ignored one, as in nnU-Net's dataset check."""
    handling = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    labels, order, expected = CONTENTS[kind]
    try:
        manager = handling.LabelManager(labels, order)
    except AssertionError:
        pytest.skip("nnU-Net refuses these")
    ignored = [manager.ignore_label] if manager.has_ignore_label else []
    assert list(expected.integers) == [*manager.all_labels, *ignored]


PROBLEMS = {
    "none": ({"background": 0, "a": 1, "b": 2}, None, ()),
    "none with ignore": ({"background": 0, "a": 1, "ignore": 2}, None, ()),
    "none with regions": ({"background": 0, "whole": [1, 2], "part": [2], "ignore": 3}, [1, 2], ()),
    "a gap": ({"background": 0, "a": 2}, None, ("count from 0 without a gap, not \\[0, 2\\]",)),
    "a gap in regions": ({"background": 0, "whole": [1, 3], "part": [3]}, [1, 2], ("not \\[0, 1, 3\\]",)),
    "a gap before ignore": ({"background": 0, "a": 1, "ignore": 3}, None, ("not \\[0, 1, 3\\]",)),
    "ignore between": ({"background": 0, "a": 1, "ignore": 2, "b": 3}, None, ("'ignore' should be one .* highest",)),
    "ignore in a list": ({"background": 0, "a": 1, "ignore": [2]}, None, ("'ignore' should be one integer",)),
    "ignore in quotes": ({"background": 0, "a": 1, "ignore": "2"}, None, ("'ignore' should be one integer",)),
    "another name for 0": ({"air": 0, "a": 1}, None, ("label 0 should be called background",)),
    "no background": ({"a": 1, "b": 2}, None, ("label 0 should be called background",)),
    "background in a list": ({"background": [0], "a": 1}, None, ("label 0 should be called background",)),
    "several": ({"air": 0, "a": 2}, None, ("without a gap", "called background")),
}
OURS_ALONE = {
    "one integer for two": ({"background": 0, "a": 1, "b": 1}, None, ("an integer of its own, but a, b share one",)),
    "quotes in regions": ({"background": 0, "whole": [1, 2], "part": "2"}, [1, 2], ("without quotes; those of part",)),
}
"""nnU-Net trains with them, but no model can output both labels, or a region without voxels."""


@pytest.mark.parametrize("kind", [*PROBLEMS, *OURS_ALONE])
def test_what_hinders_training(kind):
    labels, order, sentences = (PROBLEMS | OURS_ALONE)[kind]
    problems = label_problems(content(labels, order))
    assert len(problems) == len(sentences)
    for problem, sentence in zip(problems, sentences, strict=True):
        assert re.search(sentence, problem), problem


@pytest.mark.parametrize("kind", PROBLEMS)
def test_nnunet_refuses_the_same(kind):
    """nnU-Net's manager, and the rule of `verify_dataset_integrity` that labels are consecutive."""
    handling = pytest.importorskip("nnunetv2.utilities.label_handling.label_handling")
    labels, order, sentences = PROBLEMS[kind]
    try:
        manager = handling.LabelManager(labels, order)
        expected = [*manager.all_labels, *([manager.ignore_label] if manager.has_ignore_label else [])]
        is_refused = not all(step == 1 for step in np.ediff1d(expected)) or expected[0] != 0
    except (AssertionError, RuntimeError):
        is_refused = True
    assert is_refused == bool(sentences)


@pytest.mark.parametrize(
    ("labels", "order", "sentence"),
    [
        ({"0": "background", "1": "liver"}, None, r"nnU-Net v1.*\{\"background\": 0, \"liver\": 1\}"),
        ({"background": 0, "whole": [1, 2]}, None, "'regions_class_order' must be a list of 1 integers"),
        ({"background": 0, "whole": [1, 2], "part": 2}, [1], "list of 2 integers.*it is \\[1\\]"),
        ({"background": 0, "whole": [1, 2], "part": 2}, [1, 1], "the same integer"),
        ({"background": 0, "whole": [1, 2]}, 1, "it is 1"),
        ({"background": 0, "whole": [1, 2]}, ["x"], "integers above 0, not \\['x'\\]"),
        ({"background": 0, "whole": [1, 2]}, [0], "integers above 0, not \\[0\\]"),
        ({"background": 0, "whole": "x"}, None, "not integers"),
        ({"background": 0, "whole": [1, [2]]}, None, "not integers"),
        ({"background": 0, "whole": []}, None, "whole has none or a negative one"),
        ({"background": 0, "whole": -1}, None, "whole has none or a negative one"),
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
