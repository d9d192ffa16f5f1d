"""Overviews of large results."""

import nibabel
import numpy as np
import pytest

from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, Timings
from stunet.serve import overview, saved_result
from stunet.serve.overview import OVERVIEW_LABELS, OVERVIEW_SCAN, overview_step
from stunet.serve.saved_result import LABELS, RECORD, SCAN, save_result

AFFINE = nibabel.affines.from_matvec([[-0.7, 0, 0], [0, 0, 1.1], [0, 0.9, 0]], [10, -20, 30])


@pytest.mark.parametrize(
    ("shape", "step"), [((200, 200, 200), 1), ((201, 200, 200), 2), ((400, 400, 400), 2), ((1500, 512, 512), 4)]
)
def test_the_least_step_with_at_most_eight_million_voxels(shape, step):
    assert overview_step(shape) == step
    assert np.prod(shape) / step**3 <= 8e6 and (step == 1 or np.prod(shape) / (step - 1) ** 3 > 8e6)


@pytest.mark.parametrize(("most", "step"), [(1000, 1), (40, 2), (10, 3)])
def test_every_step_th_voxel_is_kept_where_it_was(tmp_path, monkeypatch, most, step):
    monkeypatch.setattr(overview, "MOST_VOXELS", most)
    labels = (np.arange(7 * 6 * 5) % 3).astype(np.uint8).reshape(7, 6, 5)
    scan = Volume(np.arange(7 * 6 * 5, dtype=np.int16).reshape(1, 7, 6, 5), AFFINE)
    names = {0: "background", 1: "liver", 2: "spleen"}
    save_result(Segmentation(labels=labels, scan=scan, names=names, timings=Timings(0, 0, 0, 0)), tmp_path, {})
    assert saved_result.read_json_object(tmp_path / RECORD)["overview_step"] == step
    for whole, small in ((SCAN, OVERVIEW_SCAN), (LABELS, OVERVIEW_LABELS)):
        assert (tmp_path / small).exists() == (step > 1)
        if step > 1:
            expected = nibabel.load(tmp_path / whole).slicer[::step, ::step, ::step]  # moves the affine, too
            written = nibabel.load(tmp_path / small)
            np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.asanyarray(expected.dataobj))
            np.testing.assert_allclose(written.affine, expected.affine, atol=1e-5)
