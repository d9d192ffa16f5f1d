import json
from dataclasses import asdict, fields

import numpy as np
import pytest
import SimpleITK

from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.imaging.volume import Volume
from stunet.inference.statistics import StructureStatistics, structure_statistics
from stunet.labels.ontology import LABELS
from tests.phantoms import rotated_affine, smooth_scan

SHAPE = (9, 14, 11)
NAMES = {0: "background", 1: "first", 2: "absent", 3: "third", 300: "far"}
TO_LPS = np.array([-1.0, -1.0, 1.0])


def phantom(label_type: type = np.uint16) -> tuple[Volume, np.ndarray]:
    """An oblique scan with voxels of 0.7 x 0.9 x 2.5 mm, three structures in many pieces, and a label without name."""
    random = np.random.default_rng(1)
    labels = np.zeros(SHAPE, dtype=label_type)
    values = [1, 3, 4] if label_type is np.uint8 else [1, 3, 4, 300]
    labels[2:7, 3:12, 2:10] = random.choice([0, *values], size=(5, 9, 8))
    labels[0, 5, 5] = 3
    return Volume(smooth_scan(SHAPE)[None], rotated_affine((0.7, 0.9, 2.5))), labels


def itk_image(array_ZYX: np.ndarray, affine: np.ndarray) -> SimpleITK.Image:
    """The same voxels at the same place, in ITK's world (LPS)."""
    image = SimpleITK.GetImageFromArray(array_ZYX)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetOrigin((affine[:3, 3] * TO_LPS).tolist())
    image.SetDirection((affine[:3, :3] / spacing * TO_LPS[:, None]).ravel().tolist())
    return image


def assert_equals_simpleitk(volume: Volume, labels_ZYX: np.ndarray, names: dict[int, str]) -> None:
    """All statistics of exactly the structures that are present, compared with SimpleITK's filter."""
    statistics = structure_statistics(labels_ZYX, volume, names)
    itk = SimpleITK.LabelIntensityStatisticsImageFilter()
    itk.Execute(itk_image(labels_ZYX, volume.affine), itk_image(volume.array[0].astype(np.float64), volume.affine))
    present = [label for label in itk.GetLabels() if label in names]
    assert list(statistics) == [names[label] for label in present]
    for label in present:
        ours, count = statistics[names[label]], itk.GetNumberOfPixels(label)
        assert ours.voxels == count
        assert ours.volume_mm3 == pytest.approx(itk.GetPhysicalSize(label), rel=1e-6)
        assert ours.mean == pytest.approx(itk.GetMean(label), rel=1e-9, abs=1e-9)
        # ITK divides by n - 1; its variance comes from a sum of squares
        of_sample = ours.std * np.sqrt(count / (count - 1)) if count > 1 else 0.0
        assert of_sample == pytest.approx(itk.GetStandardDeviation(label), rel=1e-6, abs=1e-6)
        assert ours.centroid_mm == pytest.approx(np.array(itk.GetCentroid(label)) * TO_LPS, abs=1e-3)
        start, size = np.split(np.array(itk.GetBoundingBox(label)), 2)
        np.testing.assert_array_equal(ours.bounding_box, np.stack([start, start + size], axis=1))


def test_an_oblique_phantom_as_simpleitk_measures_it():
    assert_equals_simpleitk(*phantom(), NAMES)


def test_a_real_ct_as_simpleitk_measures_it(shared_data):
    volume = read_volume(shared_data / "totalseg_example" / "ct.nii.gz")
    labels = read_labels(shared_data / "totalseg_example" / "labels_stunet104.nii.gz").array[0]
    assert_equals_simpleitk(volume, labels, dict(enumerate(LABELS)))
    statistics = structure_statistics(labels, volume, dict(enumerate(LABELS)))
    assert len(statistics) == 57
    assert 40 < statistics["liver"].mean < 200  # Hounsfield units
    assert statistics["liver"].centroid_mm[0] > statistics["spleen"].centroid_mm[0]  # to the patient's right
    cut_off = {name for name, one in statistics.items() if one.touches_border}
    assert {"femur_left", "liver", "aorta"} <= cut_off
    assert not {"urinary_bladder", "kidney_left", "vertebrae_L3"} & cut_off


@pytest.mark.parametrize("image_type", [np.uint8, np.int32, ">i2", np.float32])
@pytest.mark.parametrize("label_type", [np.uint8, np.uint16])
def test_types_and_memory_orders(image_type, label_type):
    volume, labels = phantom(label_type)
    image = np.abs(volume.array) % 200
    expected = structure_statistics(labels, Volume(image.astype(np.float64), volume.affine), NAMES)
    turned = np.asfortranarray(image.astype(image_type))
    assert structure_statistics(np.asfortranarray(labels), Volume(turned, volume.affine), NAMES) == expected


def test_the_first_channel_counts():
    volume, labels = phantom()
    two = Volume(np.concatenate([volume.array, 7 + 0 * volume.array]), volume.affine)
    assert structure_statistics(labels, two, NAMES) == structure_statistics(labels, volume, NAMES)


def test_a_small_spread_on_a_large_offset_keeps_its_digits():
    """For such values, the error of a float64 sum of squares is larger than the variance."""
    spread = np.random.default_rng(0).integers(0, 4, SHAPE)
    volume = Volume((spread + 10.0**9)[None], np.eye(4))
    std = structure_statistics(np.ones(SHAPE, dtype=np.uint8), volume, {1: "all"})["all"].std
    assert std == pytest.approx(spread.std(), rel=1e-6)


def test_one_voxel():
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[4, 6, 2] = 1
    volume = Volume(np.full((1, *SHAPE), -37, dtype=np.int16), np.diag([2.0, -3.0, 4.0, 1.0]))
    assert structure_statistics(labels, volume, {1: "dot"})["dot"] == StructureStatistics(
        voxels=1,
        volume_mm3=pytest.approx(24.0),
        mean=-37.0,
        std=0.0,
        centroid_mm=(4.0, -18.0, 16.0),
        bounding_box=((2, 3), (6, 7), (4, 5)),
        bounding_box_mm=((3.0, 5.0), (-19.5, -16.5), (14.0, 18.0)),
        touches_border=False,
    )


def test_the_box_in_mm_holds_all_faces_of_an_oblique_box():
    volume, labels = phantom()
    box_mm = np.array(structure_statistics(labels, volume, NAMES)["first"].bounding_box_mm)
    z, y, x = np.nonzero(labels == 1)
    steps = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(-1, 1, 3)
    corners = (np.stack([x, y, z], axis=-1) + steps) @ volume.affine[:3, :3].T + volume.affine[:3, 3]
    assert (box_mm[:, 0] <= corners.min(axis=(0, 1)) + 1e-9).all()
    assert (box_mm[:, 1] >= corners.max(axis=(0, 1)) - 1e-9).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("place", [0, 1, -2, -1])
def test_the_border(axis, place):
    labels = np.zeros(SHAPE, dtype=np.uint8)
    index = [5, 5, 5]
    index[axis] = place
    labels[tuple(index)] = 1
    volume = Volume(np.zeros((1, *SHAPE), dtype=np.int16), np.eye(4))
    assert structure_statistics(labels, volume, {1: "dot"})["dot"].touches_border == (place in (0, -1))


def test_nothing_to_describe():
    volume, labels = phantom()
    assert structure_statistics(np.zeros_like(labels), volume, NAMES) == {}
    assert structure_statistics(labels, volume, {0: "background"}) == {}


def test_labels_of_another_grid():
    volume, labels = phantom()
    with pytest.raises(ValueError, match="do not fit"):
        structure_statistics(labels[1:], volume, NAMES)


def test_json():
    volume, labels = phantom()
    one = structure_statistics(labels, volume, NAMES)["third"]
    read = json.loads(json.dumps(asdict(one)))
    assert list(read) == [field.name for field in fields(StructureStatistics)]
    assert read["bounding_box"] == [list(side) for side in one.bounding_box]
    assert read["voxels"] == one.voxels and read["mean"] == one.mean


def test_a_region_is_measured_as_one_structure():
    volume, labels = phantom()
    regions = structure_statistics(labels, volume, {1: "whole", 3: "part"}, {1: (1, 3, 300)})
    united = np.where(np.isin(labels, (1, 3, 300)), 1, 0).astype(np.uint16)
    whole = structure_statistics(united, volume, {1: "whole"})["whole"]
    ours, expected = asdict(regions["whole"]), asdict(whole)
    for name in ("mean", "std", "volume_mm3", "centroid_mm"):
        assert ours.pop(name) == pytest.approx(expected.pop(name), rel=1e-12), name
    assert ours == expected
    assert regions["part"] == structure_statistics(labels, volume, {3: "part"})["part"]
