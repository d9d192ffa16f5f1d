import math

import pytest

from stunet.evaluation.countings import counted_means
from stunet.labels.mapping import list_mappings, load_mapping


def perfect(mapping):
    return dict.fromkeys(mapping.evaluable(), 1.0)


def test_amos_has_a_target_that_no_class_gives():
    amos = load_mapping("amos_ct")
    assert counted_means(amos, perfect(amos)) == {
        "Table 9": pytest.approx(14 / 15),
        "evaluable": 1.0,
        "released script": 1.0,
    }


def test_the_released_script_leaves_targets_out():
    amos = load_mapping("amos_ct")
    scores = perfect(amos) | {"gallbladder": 0.0, "inferior_vena_cava": 0.0, "liver": 0.4}
    means = counted_means(amos, scores)
    assert means["Table 9"] == pytest.approx(11.4 / 15)
    assert means["evaluable"] == pytest.approx(11.4 / 14)
    assert means["released script"] == pytest.approx(11.4 / 12)


def test_the_released_script_adds_the_brain_to_ct_org():
    ct_org = load_mapping("ct_org")
    means = counted_means(ct_org, perfect(ct_org) | {"brain": 0.5})
    assert means == {"Table 9": 1.0, "evaluable": 1.0, "released script": pytest.approx(4.5 / 5)}


def test_word():
    word = load_mapping("word")
    means = counted_means(word, perfect(word))
    assert means == {"Table 9": pytest.approx(15 / 16), "evaluable": 1.0, "released script": 1.0}


def test_the_three_differ_for_three_datasets_only():
    differing = set()
    for name in list_mappings()[:14]:
        mapping = load_mapping(name)
        scores = {target: 1 / (1 + number) for number, target in enumerate(mapping.evaluable())}
        if len({round(mean, 12) for mean in counted_means(mapping, scores).values()}) > 1:
            differing.add(name)
    assert differing == {"amos_ct", "ct_org", "word"}


def test_a_target_in_no_case_is_left_out():
    segthor = load_mapping("segthor")
    scores = {"esophagus": 0.5, "trachea": math.nan, "aorta": 1.0}
    assert set(counted_means(segthor, scores).values()) == {0.75}


def test_a_dataset_that_is_not_in_table_9():
    ours = load_mapping("totalsegmentator")
    assert counted_means(ours, perfect(ours)) == {"evaluable": 1.0}
