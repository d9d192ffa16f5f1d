"""One small oblique dataset in every format that can be trained on, from its check to the scores of a model."""

import json
import pickle

import blosc2
import nibabel
import numpy as np
import pytest
import SimpleITK
from scipy import ndimage

from stunet.batch.outputs import Outputs
from stunet.batch.request import request_for
from stunet.batch.segmenter import OnThisMachine
from stunet.datasets.check import check_dataset
from stunet.evaluation.report import evaluate
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.preprocess import preprocess
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.plans.nnunet import plans_from
from stunet.plans.raw_dataset import FILE_ENDINGS
from stunet.training.prepare import prepare
from stunet.training.run import train
from tests.phantoms import rotated_affine, smooth_scan
from tests.training.conftest import environment
from tests.training.options import settings_of

DATASET = "Dataset004_Oblique"
CASES = ("case_0", "case_1")
SHAPE = (20, 26, 32)
SPACING_XYZ = (0.75, 1.0, 1.5)
NAMES = {1: "blob", 2: "core"}


def write_dataset(folder, ending):
    """Blobs, each with a core, turned about all axes."""
    for number, case in enumerate(CASES):
        scan_ZYX = smooth_scan(SHAPE, seed=number)
        ball_ZYX = np.zeros(SHAPE, bool)
        ball_ZYX[10, 13, 14 + 2 * number] = True
        labels_ZYX = np.sum([ndimage.binary_dilation(ball_ZYX, iterations=size) for size in (6, 3)], axis=0)
        write_image(scan_ZYX, folder / "imagesTr" / f"{case}_0000{ending}")
        write_image(labels_ZYX.astype(np.uint8), folder / "labelsTr" / f"{case}{ending}")
    description = {
        "channel_names": {"0": "CT"},
        "labels": {"background": 0, **{name: label for label, name in NAMES.items()}},
        "numTraining": len(CASES),
        "file_ending": ending,
    }
    (folder / "dataset.json").write_text(json.dumps(description))


def write_image(array_ZYX, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array_ZYX)
    affine = rotated_affine((1, 1, 1))
    image.SetDirection(affine[:3, :3].ravel().tolist())
    image.SetOrigin(affine[:3, 3].tolist())
    image.SetSpacing(SPACING_XYZ)
    SimpleITK.WriteImage(image, path)


def prepared(home, ending):
    """Folder of the preprocessed dataset."""
    write_dataset(home / "raw" / DATASET, ending)
    with environment(home):
        return prepare("4", "tiny", processes=1).plans_file.parent


@pytest.fixture(scope="module")
def compressed_nifti(tmp_path_factory):
    """The preprocessed dataset of compressed NIfTI files, with which the others are compared."""
    return prepared(tmp_path_factory.mktemp("nifti"), ".nii.gz")


@pytest.mark.parametrize("ending", FILE_ENDINGS)
def test_the_images_are_the_same_in_every_format(tmp_path, compressed_nifti, ending):
    folder = prepared(tmp_path, ending)
    report = check_dataset(tmp_path / "raw" / DATASET)
    assert (report.problems, report.label_cases) == ((), {"blob": 2, "core": 2})
    for case in CASES:
        for suffix in (".b2nd", "_seg.b2nd"):
            paths = [place / "STUNetPlans_3d_fullres" / f"{case}{suffix}" for place in (folder, compressed_nifti)]
            ours, expected = (blosc2.open(str(path))[:] for path in paths)
            assert ours.shape[1:] == SHAPE
            np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-5)
        properties = pickle.loads((folder / "STUNetPlans_3d_fullres" / f"{case}.pkl").read_bytes())
        np.testing.assert_allclose(properties["spacing"], SPACING_XYZ[::-1], rtol=1e-6)
        truth = folder / "gt_segmentations" / f"{case}{ending}"
        assert truth.read_bytes() == (tmp_path / "raw" / DATASET / "labelsTr" / f"{case}{ending}").read_bytes()


@pytest.mark.parametrize("ending", [".nii", ".mha"])
def test_the_published_plan_brings_every_format_to_ras(tmp_path, ending):
    """As nibabel does it; the scans themselves lie in LPS, turned."""
    write_dataset(tmp_path / "raw" / DATASET, ending)
    with environment(tmp_path):
        made = prepare("4", "tiny", processes=1, plan="published")
    plan = plans_from(json.loads(made.plans_file.read_text())).preprocessing
    assert plan.orientation == "RAS"
    for case in CASES:
        scan = tmp_path / "raw" / DATASET / "imagesTr" / f"{case}_0000{ending}"
        SimpleITK.WriteImage(SimpleITK.ReadImage(scan), tmp_path / "scan.nii")
        nifti = nibabel.load(tmp_path / "scan.nii")
        assert nibabel.aff2axcodes(nifti.affine) == ("L", "P", "S")
        scan_ZYX = nibabel.as_closest_canonical(nifti).get_fdata().T
        zscore_ZYX = (scan_ZYX - scan_ZYX.mean()) / scan_ZYX.std()
        path = made.plans_file.parent / "STUNetPublishedPlans_3d_fullres" / f"{case}.b2nd"
        image_ZYX = blosc2.open(str(path))[0]
        factors = [n / m for n, m in zip(image_ZYX.shape, zscore_ZYX.shape, strict=True)]
        expected_ZYX = ndimage.zoom(zscore_ZYX, factors, order=1, grid_mode=True, mode="nearest")
        flipped = np.corrcoef(np.flip(expected_ZYX, (1, 2)).ravel(), image_ZYX.ravel())[0, 1]
        assert np.corrcoef(expected_ZYX.ravel(), image_ZYX.ravel())[0, 1] > 0.95 > 0.5 > flipped
        ours_CZYX, _ = preprocess(read_volume(scan), plan)
        np.testing.assert_allclose(ours_CZYX[0].numpy(), image_ZYX, atol=1e-3)


def assert_lies_where(path, scan):
    """Same voxels in the same place as the scan, as SimpleITK reads both."""
    ours, theirs = SimpleITK.ReadImage(path), SimpleITK.ReadImage(scan)
    assert ours.GetSize() == theirs.GetSize()
    for corner in ((0, 0, 0), tuple(n - 1 for n in theirs.GetSize())):
        places = [image.TransformIndexToPhysicalPoint(corner) for image in (ours, theirs)]
        np.testing.assert_allclose(*places, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("ending", FILE_ENDINGS[1:])
def test_trained_predicted_and_scored(tmp_path, ending):
    """A tiny network of two steps; its answers lie where the scans do, and are scored."""
    prepared(tmp_path, ending)
    raw = tmp_path / "raw" / DATASET
    options = {"fold": "all", "epochs": 1, "iterations_per_epoch": 2, "patch": (32, 32, 32), "picture_every": 0}
    with environment(tmp_path):
        result = train(settings_of("tiny", **options, precision="float32"))
    predictor = Predictor(result.model_folder, InferenceConfig(precision="float32"))
    assert {label: name for label, name in predictor.names.items() if label} == NAMES
    folder = tmp_path / "predictions"
    summary = request_for(raw / "imagesTr", folder, Outputs()).predict(OnThisMachine(lambda: predictor))
    assert summary.failed == 0
    for case in CASES:
        scan = raw / "imagesTr" / f"{case}_0000{ending}"
        single = tmp_path / f"single_{case}{ending}"
        request_for(scan, single, Outputs()).predict(OnThisMachine(lambda: predictor))
        for path in (
            result.model_folder / "fold_all/validation" / f"{case}{ending}",
            folder / f"{case}.nii.gz",
            single,
        ):
            assert_lies_where(path, scan)
        pair = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path)) for path in (single, folder / f"{case}.nii.gz")]
        np.testing.assert_array_equal(*pair)
    for predictions in (folder, result.model_folder / "fold_all" / "validation"):
        report = evaluate(predictions, raw / "labelsTr", NAMES)
        assert [case.case for case in report.cases] == list(CASES)
    assert report.per_label == pytest.approx(
        {int(label): dsc for label, dsc in result.dsc_per_label.items()}, abs=1e-6, nan_ok=True
    )
