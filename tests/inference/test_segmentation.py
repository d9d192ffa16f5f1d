import numpy as np
import pytest

from stunet.imaging.formats.table import read_labels
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, Timings

NAMES = {0: "background", 1: "liver", 2: "spleen", 3: "aorta"}


def segmentation() -> Segmentation:
    labels = np.zeros((3, 4, 5), dtype=np.uint8)
    labels[0, 0, :3] = 1
    labels[2] = 3
    affine = np.diag([0.5, -2.0, 3.0, 1.0])
    scan = Volume(np.zeros((1, 3, 4, 5), dtype=np.int16), affine)
    return Segmentation(labels, NAMES, scan, Timings(1.0, 2.0, 3.0, 4.0))


def test_volumes():
    assert segmentation().voxel_counts.tolist() == [37, 3, 0, 20]
    assert segmentation().volumes_mm3() == pytest.approx({"liver": 9.0, "spleen": 0.0, "aorta": 60.0})


def test_timings_add_up():
    assert segmentation().timings.total == 10.0


def test_saved_labels_come_back(tmp_path):
    path = tmp_path / "labels.nii.gz"
    segmentation().save(path)
    read = read_labels(path)
    assert np.array_equal(read.array[0], segmentation().labels)
    assert np.allclose(read.affine, segmentation().affine)
