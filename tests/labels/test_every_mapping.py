"""Every mapping is compared with Table 9 of the paper and scored with a perfect prediction."""

import math
import re

import nibabel
import numpy as np
import pytest

from stunet.evaluation.mapped import evaluate_mapped
from stunet.labels.mapping import list_mappings, load_mapping, remap_labels
from stunet.labels.ontology import LABELS
from tests.conftest import REPOSITORY

TABLE_9 = {
    "msd_liver": (1, 131),
    "msd_pancreas": (1, 281),
    "msd_spleen": (1, 41),
    "btcv": (13, 30),
    "btcv_cervix": (1, 30),
    "abdomenct_1k": (4, 1000),
    "kits2021": (1, 300),
    "flare22": (13, 50),
    "ct_org": (4, 140),
    "amos_ct": (15, 200),
    "kipa2022": (1, 70),
    "verse2020": (24, 61),
    "word": (16, 120),
    "segthor": (3, 40),
}
"""Name -> number of targets and of annotated scans, copied from the paper."""

WITH_SIDES = ("btcv", "flare22", "amos_ct", "word")
"""The datasets that distinguish left and right."""

MAPPINGS = list_mappings()


def other_side(name):
    """`kidney_left` -> `kidney_right`, `rib_right_3` -> `rib_left_3`; other names stay as they are."""
    swapped = {"left": "right", "right": "left"}
    return "_".join(swapped.get(word, word) for word in name.split("_"))


def of_sides(mapping):
    """The targets that have a counterpart on the other side."""
    names = set(mapping.evaluable())
    return {name for name in names if other_side(name) != name and other_side(name) in names}


def synthetic_reference(mapping, seed):
    """Blobs of all labels of the dataset, including unused ones: (Z, Y, X), 2 x 2 x 4 voxels per label."""
    labels = [label for target in mapping.targets for label in target.labels] + list(mapping.unused_labels)
    order = np.random.default_rng(seed).permutation(labels)
    reference_ZYX = np.zeros((3, 2, 4 * len(order)), np.uint8)
    reference_ZYX[:2] = np.repeat(order, 4)
    return reference_ZYX


def perfect_prediction(mapping, reference_ZYX, swap=False):
    """The same in our 104 structures; a target of several structures is filled by all of them, side by side."""
    prediction_ZYX = np.zeros_like(reference_ZYX)
    for target in mapping.targets:
        names = [other_side(name) if swap and other_side(name) in LABELS else name for name in target.structures]
        inside = np.isin(reference_ZYX, target.labels)
        if names:
            prediction_ZYX[inside] = np.resize([LABELS.index(name) for name in names], inside.sum())
    return prediction_ZYX


@pytest.fixture
def dataset(tmp_path):
    """Write two cases of a mapping and their predictions."""

    def write(mapping, swap=False):
        for case in range(2):
            reference_ZYX = synthetic_reference(mapping, case)
            arrays = {"references": reference_ZYX, "predictions": perfect_prediction(mapping, reference_ZYX, swap)}
            for folder, array_ZYX in arrays.items():
                (tmp_path / folder).mkdir(exist_ok=True)
                image = nibabel.Nifti1Image(array_ZYX.T, np.diag([0.8, 0.8, 3, 1]))
                nibabel.save(image, tmp_path / folder / f"case_{case}.nii.gz")
        return tmp_path / "predictions", tmp_path / "references"

    return write


def test_table_9():
    of_paper = [load_mapping(name) for name in MAPPINGS[:14]]
    assert [mapping.table9_row for mapping in of_paper] == list(range(1, 15))
    found = {m.name: (sum(target.is_listed for target in m.targets), m.cases) for m in of_paper}
    assert found == TABLE_9
    assert sum(mapping.cases for mapping in of_paper) == 2494
    assert MAPPINGS[14:] == ("totalsegmentator",)


def test_what_no_class_gives():
    lacking = {
        name: set(m.target_names.values()) - set(m.evaluable()) for name in MAPPINGS if (m := load_mapping(name))
    }
    assert {name: targets for name, targets in lacking.items() if targets} == {
        "amos_ct": {"prostate_uterus"},
        "word": {"rectum"},
    }


def test_the_facts_beside_the_project(shared_data):
    yaml = pytest.importorskip("yaml")
    facts = yaml.safe_load((shared_data.parent / "facts" / "label_mapping.yaml").read_text())
    assert list(facts) == list(TABLE_9)
    for name, fact in facts.items():
        mapping = load_mapping(name)
        targets = fact["targets"] + fact.get("extra_targets_of_official_code", [])
        assert [(t.name, t.labels, t.structures, t.in_released_script) for t in mapping.targets] == [
            (t["name"], tuple(t["dataset_labels"]), tuple(t["totalseg"]), t["in_official_code"]) for t in targets
        ]
        assert sum(target.in_released_script for target in mapping.targets) == fact["official_code_targets"]
        scored = {label for target in mapping.targets for label in target.labels}
        assert mapping.unused_labels == {k: v for k, v in fact["unused_labels"].items() if k not in scored}


@pytest.mark.parametrize("name", MAPPINGS)
def test_names_and_sources(name):
    mapping = load_mapping(name)
    listed = sum(target.is_listed for target in mapping.targets)
    row = rf"\| `{name}` \| {mapping.title}.* \| {listed} \| {mapping.cases} \| (.*) \|"
    in_docs = re.search(row, (REPOSITORY / "docs" / "direct-inference.md").read_text(encoding="utf-8"))
    assert in_docs is not None and mapping.licence.startswith(in_docs[1])
    assert all(structure in LABELS[1:] for target in mapping.targets for structure in target.structures)
    assert mapping.source.startswith("http") and mapping.licence and mapping.ids_from
    for target in mapping.targets:
        if len(target.structures) == 1:  # "lung" and "kidney" are ours; a structure keeps its name
            assert target.structures[0] == target.name or target.name.startswith("femur_head")


@pytest.mark.parametrize("name", MAPPINGS)
def test_a_perfect_prediction(name, dataset):
    mapping = load_mapping(name)
    scored = evaluate_mapped(*dataset(mapping), mapping, LABELS)
    assert len(scored.report.cases) == 2
    assert scored.scores == dict.fromkeys(mapping.evaluable(), 1.0)
    assert scored.means["evaluable"] == 1.0
    lacking = [label for label, target in mapping.target_names.items() if target in scored.not_evaluable]
    assert all(case.dsc[label] == 0 for case in scored.report.cases for label in lacking)


@pytest.mark.parametrize("name", MAPPINGS)
def test_left_for_right_is_caught(name, dataset):
    mapping = load_mapping(name)
    sides = of_sides(mapping)
    assert bool(sides) == (name in (*WITH_SIDES, "totalsegmentator"))
    scored = evaluate_mapped(*dataset(mapping, swap=True), mapping, LABELS)
    assert scored.scores == {target: float(target not in sides) for target in mapping.evaluable()}


def test_two_sides_become_one_kidney():
    kidneys = load_mapping("kits2021")
    left, right = LABELS.index("kidney_left"), LABELS.index("kidney_right")
    table = kidneys.prediction_table(LABELS)
    assert remap_labels(np.array([left, right, 3, 0]), table).tolist() == [1, 1, 0, 0]
    assert remap_labels(np.array([1, 2, 3, 0]), kidneys.reference_table()).tolist() == [1, 1, 1, 0]


def test_a_target_that_nobody_has_is_no_zero(dataset, tmp_path):
    mapping = load_mapping("ct_org")
    predictions, references = dataset(mapping)
    for folder, brain in ((predictions, LABELS.index("brain")), (references, 6)):
        for path in folder.iterdir():
            image = nibabel.load(path)
            array = np.asarray(image.dataobj)
            nibabel.save(nibabel.Nifti1Image(np.where(array == brain, 0, array).astype(np.uint8), image.affine), path)
    scored = evaluate_mapped(predictions, references, mapping, LABELS)
    assert math.isnan(scored.scores["brain"])
    assert scored.means == {"Table 9": 1.0, "evaluable": 1.0, "released script": 1.0}
