"""Regions and the ignore label, compared with nnU-Net's own evaluation of the same files."""

import json

import nibabel
import numpy as np
import pytest

from stunet.cli.evaluate import Evaluate

PLAIN = {"background": 0, "Anterior": 1, "Posterior": 2}
KINDS = {
    "plain": (PLAIN, None, [1, 2], None),
    "ignore": ({**PLAIN, "ignore": 3}, None, [1, 2], 3),
    "regions": ({"background": 0, "whole": [1, 2], "Posterior": [2]}, [1, 2], [(1, 2), (2,)], None),
    "regions and ignore": (
        {"background": 0, "whole": [1, 2], "Posterior": 2, "ignore": 3},
        [1, 2],
        [(1, 2), (2,)],
        3,
    ),
}
CASES = 3


@pytest.fixture(scope="module")
def folders(shared_data, tmp_path_factory):
    """Real label maps, shifted and noisy predictions, and references that are only partly annotated."""
    folder = tmp_path_factory.mktemp("evaluation")
    random = np.random.default_rng(0)
    for name in ("prediction", "reference", "ignoring"):
        (folder / name).mkdir()
    for path in sorted((shared_data / "Dataset004_Hippocampus" / "labelsTr").glob("*.nii.gz"))[:CASES]:
        image = nibabel.load(path)
        true = np.asanyarray(image.dataobj).astype(np.uint8)
        predicted = np.roll(true, 1, axis=0)
        predicted[random.random(true.shape) < 0.01] = 1
        partly = true.copy()
        partly[:, :12] = 3
        for name, array in (("prediction", predicted), ("reference", true), ("ignoring", partly)):
            nibabel.save(nibabel.Nifti1Image(array, image.affine), folder / name / path.name)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_nnunets(folders, tmp_path, capsys, kind):
    evaluation = pytest.importorskip("nnunetv2.evaluation.evaluate_predictions")
    reader = pytest.importorskip("nnunetv2.imageio.simpleitk_reader_writer").SimpleITKIO()
    labels, order, theirs, ignored = KINDS[kind]
    names = tmp_path / "dataset.json"
    names.write_text(json.dumps({"labels": labels, "regions_class_order": order}))
    reference, prediction = folders / ("reference" if ignored is None else "ignoring"), folders / "prediction"
    assert Evaluate(prediction, reference, names=names, json=True).run() == 0
    ours = json.loads(capsys.readouterr().out)["metrics"]["dsc"]
    expected = [
        evaluation.compute_metrics(str(reference / path.name), str(path), reader, theirs, ignored)["metrics"]
        for path in sorted(prediction.iterdir())
    ]
    for case, scores in zip(ours["per_case"].values(), expected, strict=True):
        assert list(case.values()) == pytest.approx([scores[label]["Dice"] for label in theirs], abs=1e-9)
    means = [np.mean([scores[label]["Dice"] for scores in expected]) for label in theirs]
    assert ours["mean"]["value"] == pytest.approx(np.mean(means), abs=1e-9)


def test_surfaces_end_where_nobody_annotated(folders, tmp_path, capsys):
    """Distances are computed as if ignored voxels were background in both maps."""
    cut = tmp_path / "cut"
    for name in ("prediction", "ignoring"):
        (cut / name).mkdir(parents=True)
        for path in (folders / name).iterdir():
            image, ignoring = nibabel.load(path), nibabel.load(folders / "ignoring" / path.name)
            array = np.where(np.asanyarray(ignoring.dataobj) == 3, 0, np.asanyarray(image.dataobj)).astype(np.uint8)
            nibabel.save(nibabel.Nifti1Image(array, image.affine), cut / name / path.name)
    (tmp_path / "ignore.json").write_text(json.dumps({"labels": {**PLAIN, "ignore": 3}}))
    (tmp_path / "plain.json").write_text(json.dumps({"labels": PLAIN}))
    results = []
    for folder, names in ((folders, "ignore.json"), (cut, "plain.json")):
        arguments = (folder / "prediction", folder / "ignoring")
        Evaluate(*arguments, names=tmp_path / names, metrics=("nsd", "hd95"), json=True).run()
        results.append(json.loads(capsys.readouterr().out)["metrics"])
    assert results[0] == results[1]
