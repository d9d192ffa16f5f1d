"""Direct inference on real scans, with a 105-class model in nnU-Net v1's format that is trained here for seconds."""

import pickle
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch.nn import functional

from stunet.cli.main import run as stunet
from stunet.errors import UserError
from stunet.experiments.direct_inference import DirectInferenceRun, direct_inference, find_annotated_cases
from stunet.experiments.experiment import Workplace
from stunet.experiments.results import read_results
from stunet.experiments.run import RESULTS_NAME, run_experiment
from stunet.experiments.table4 import EXPERIMENT
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.labels.mapping import load_mapping
from stunet.labels.ontology import LABELS
from tests.weights import samples

PATCH = 32
"""Of the trained network, at 3 mm."""


def write_model(path: Path, network: torch.nn.Module) -> Path:
    """A `.model` of nnU-Net v1 with its plans beside it, imported as users import it."""
    plans = samples.v1_plans(num_classes=104)
    plans["plans_per_stage"][0] |= {"patch_size": np.full(3, PATCH), "current_spacing": np.full(3, 3.0)}
    samples.write_v1(path, network.state_dict())
    path.with_name(f"{path.name}.pkl").write_bytes(pickle.dumps(plans))
    imported = path.with_suffix(".safetensors")
    assert stunet(["weights", "import", str(path), "-o", str(imported)]) == 0
    return imported


def trained_network(image_ZYX: np.ndarray, labels_ZYX: np.ndarray, iterations: int) -> torch.nn.Module:
    """A tiny network that has seen random patches of one scan, in the normalisation of the published weights.

    Rare structures weigh more, so that a few iterations find something else than background.
    """
    network = samples.network("tiny", 1, len(LABELS)).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=1e-2)
    image = torch.from_numpy((image_ZYX - image_ZYX.mean()) / image_ZYX.std()).float()
    labels = torch.from_numpy(labels_ZYX.astype(np.int64))
    missing = [max(PATCH - size, 0) for size in image.shape]
    pads = [n for size in reversed(missing) for n in (size // 2, size - size // 2)]
    image, labels = functional.pad(image, pads), functional.pad(labels, pads)
    weight = 1 / torch.sqrt(torch.bincount(labels.flatten(), minlength=len(LABELS)) + 100.0)
    random = np.random.default_rng(0)
    for _ in range(iterations):
        starts = [int(random.integers(size - PATCH + 1)) for size in image.shape]
        place = tuple(slice(start, start + PATCH) for start in starts)
        logits = network(image[place][None, None])
        loss = functional.cross_entropy(logits, labels[place][None], weight=weight)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return network.eval()


@pytest.fixture(scope="module")
def dataset(shared_data, tmp_path_factory):
    """Both halves of the crop of TotalSegmentator's example as a dataset in nnU-Net's raw layout."""
    folder = tmp_path_factory.mktemp("data") / "Dataset600_Example"
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True)
    example = shared_data / "totalseg_example"
    scan, labels = (nibabel.load(example / f"ct_crop{rest}.nii.gz") for rest in ("", "_labels_stunet104"))
    for case, y in (("back", slice(0, 50)), ("front", slice(50, 101))):
        nibabel.save(scan.slicer[:, y], folder / "imagesTr" / f"{case}_0000.nii.gz")
        nibabel.save(labels.slicer[:, y], folder / "labelsTr" / f"{case}.nii.gz")
    return folder


@pytest.fixture(scope="module")
def models(shared_data, tmp_path_factory):
    """The files of a network that was trained a little, and of one that was not."""
    folder = tmp_path_factory.mktemp("models")
    example = shared_data / "totalseg_example"
    image_ZYX = read_volume(example / "ct_crop.nii.gz").array[0]
    labels_ZYX = read_labels(example / "ct_crop_labels_stunet104.nii.gz").array[0]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    files = {
        name: write_model(folder / f"{name}.model", trained_network(image_ZYX, labels_ZYX, iterations))
        for name, iterations in (("trained", 40), ("untrained", 0))
    }
    torch.set_num_threads(threads)
    return files


def own_run(folder, dataset, model, resume=False):
    """`stunet experiment run table4 --profile mini --data totalsegmentator=... --data model=...`."""
    data = {"totalsegmentator": dataset, "model": model}
    return run_experiment(EXPERIMENT, "mini", Workplace(folder, data, resume=resume))


def values_by_target(results):
    return {m.target: m.value for m in results.measurements}


def test_table4_end_to_end(dataset, models, tmp_path):
    results = own_run(tmp_path / "trained", dataset, models["trained"])
    assert read_results(tmp_path / "trained" / RESULTS_NAME) == results
    found = values_by_target(results)
    before = values_by_target(own_run(tmp_path / "untrained", dataset, models["untrained"]))
    print(f"mean DSC {before['TotalSegmentator']:.3f} untrained, {found['TotalSegmentator']:.3f} trained")
    assert found["TotalSegmentator"] > 2 * before["TotalSegmentator"]
    assert found["liver"] > 0.1 and found["liver"] > 2 * (before["liver"] or 0)
    assert not found["brain"]  # in no scan: not defined, or 0 if it is found all the same
    predictions = tmp_path / "trained" / "predictions" / "own-totalsegmentator"
    for case in ("back", "front"):
        predicted, truth = (
            nibabel.load(path / f"{case}.nii.gz").get_fdata() == LABELS.index("liver")
            for path in (predictions, dataset / "labelsTr")
        )
        expected = 2 * (predicted & truth).sum() / (predicted.sum() + truth.sum())
        (liver,) = (m for m in results.measurements if m.target == "liver")
        assert liver.cases[case] == pytest.approx(expected)
    assert liver.value == pytest.approx(np.mean(list(liver.cases.values())))
    scored = [m.value for m in results.measurements[:-1] if m.value is not None]
    assert results.measurements[-1].value == pytest.approx(np.mean(scored))


def test_resumed_predictions_are_kept_and_another_models_refused(dataset, models, tmp_path):
    mapping = load_mapping("msd_liver")
    predictor = Predictor(models["untrained"], InferenceConfig(device="cpu"))
    livers = tmp_path / "livers"
    for part, files in (("images", "imagesTr"), ("labels", "labelsTr")):
        (livers / part).mkdir(parents=True)
        for path in (dataset / files).iterdir():
            image = nibabel.load(path)
            if part == "labels":
                liver = np.asarray(image.dataobj) == LABELS.index("liver")
                image = nibabel.Nifti1Image(liver.astype(np.uint8), image.affine)
            nibabel.save(image, livers / part / path.name)
    predictions = tmp_path / "predictions"
    first = direct_inference(livers, mapping, predictor, predictions)
    assert first.scores.keys() == {"liver"} and first.means.keys() == {"Table 9", "evaluable", "released script"}
    times = {path.name: path.stat().st_mtime_ns for path in predictions.glob("*.nii.gz")}
    assert times.keys() == {"back.nii.gz", "front.nii.gz"}
    (predictions / "front.nii.gz").unlink()
    again = direct_inference(livers, mapping, predictor, predictions, resume=True)
    assert again.scores == first.scores
    assert (predictions / "back.nii.gz").stat().st_mtime_ns == times["back.nii.gz"]
    with pytest.raises(UserError, match="already contains predictions: continue with --resume"):
        direct_inference(livers, mapping, predictor, predictions)
    other = Predictor(models["trained"], InferenceConfig(device="cpu"))
    with pytest.raises(UserError, match=r"predictions of another model than .*trained\.safetensors"):
        direct_inference(livers, mapping, other, predictions, resume=True)


@pytest.fixture
def empty_files(tmp_path):
    def write(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return write


def test_both_layouts(empty_files):
    folder = empty_files("imagesTr/a_0000.nii.gz", "imagesTr/b_0000.nii.gz", "labelsTr/a.nii.gz")
    found = find_annotated_cases(folder, 1)
    assert [case.name for case in found.cases] == ["a"] and found.labels == folder / "labelsTr"
    empty_files("imagesTs/t_0000.nii.gz", "labelsTs/t.nii.gz")
    assert [case.name for case in find_annotated_cases(folder, 1).cases] == ["t"]
    empty_files("images/x.nii.gz", "labels/x.nii.gz")
    assert [case.name for case in find_annotated_cases(folder, 1).cases] == ["x"]


def test_folders_that_are_no_datasets(empty_files, tmp_path):
    with pytest.raises(UserError, match="has no scans with label maps"):
        find_annotated_cases(empty_files("imagesTr/a_0000.nii.gz"), 1)
    with pytest.raises(UserError, match=r"has label maps without a scan in .*imagesTr: lost"):
        find_annotated_cases(empty_files("labelsTr/a.nii.gz", "labelsTr/lost.nii.gz"), 1)


def test_what_a_run_needs(tmp_path):
    run = DirectInferenceRun("STU-Net-B", "btcv", "base", "80.96")
    assert run.key == "base-btcv" and run.datasets == ("btcv",)
    assert [m.setting["counting"] for m in run.expected()] == ["Table 9", "evaluable", "released script"]
    assert {m.paper for m in run.expected()} == {0.8096}
    assert DirectInferenceRun("own model", "btcv").datasets == ("btcv", "model")
    trained_before = DirectInferenceRun("STU-Net, tiny", "btcv", after="pretraining", data="example")
    assert trained_before.key == "pretraining-btcv" and trained_before.datasets == ("example",)
    with pytest.raises(UserError, match="model of the run pretraining is missing"):
        trained_before.measure(Workplace(tmp_path, {"example": tmp_path}))
    assert 0 < run.gpu_hours() < DirectInferenceRun("STU-Net-H", "btcv", "huge").gpu_hours()
