import json

import nibabel
import numpy as np
import pytest
from PIL import Image

from stunet.batch.outputs import Outputs, write_outputs
from stunet.errors import UserError
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, Timings

NAMES = {0: "background", 1: "liver", 2: "left kidney", 3: "spleen"}


@pytest.fixture
def segmentation():
    labels = np.zeros((6, 8, 9), dtype=np.uint8)
    labels[1:3, 2:5, 2:7], labels[4, 5, 6] = 1, 2
    scan = Volume(np.arange(labels.size, dtype=np.int16).reshape(1, *labels.shape), np.diag([1.0, 2.0, 3.0, 1.0]))
    return Segmentation(labels, NAMES, scan, Timings(0, 0, 0, 0))


def test_all_of_it(tmp_path, segmentation):
    path = tmp_path / "case.nii.gz"
    written = write_outputs(segmentation, path, Outputs(statistics=True, preview=True, itksnap=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in written)
    assert written[0] == path and np.array_equal(np.asarray(nibabel.load(path).dataobj).T, segmentation.labels)
    statistics = json.loads((tmp_path / "case.statistics.json").read_text())
    assert statistics["liver"]["volume_mm3"] == 30 * 6.0 and set(statistics) == {"liver", "left kidney"}
    assert Image.open(tmp_path / "case.preview.png").size[0] > 500
    assert "left kidney" in (tmp_path / "case.itksnap.txt").read_text()


def test_one_mask_per_structure(tmp_path, segmentation):
    (tmp_path / "case").mkdir()
    (tmp_path / "case" / "notes.txt").write_text("kept")
    for _ in range(2):
        write_outputs(segmentation, tmp_path / "case", Outputs(separate=True))
        names = sorted(p.name for p in (tmp_path / "case").iterdir())
        assert names == ["left_kidney.nii.gz", "liver.nii.gz", "notes.txt", "spleen.nii.gz"]
    assert [p.name for p in tmp_path.iterdir()] == ["case"]
    mask = np.asarray(nibabel.load(tmp_path / "case" / "liver.nii.gz").dataobj).T
    assert np.array_equal(mask, segmentation.labels == 1)


def test_labels_come_last(tmp_path, segmentation, monkeypatch):
    monkeypatch.setattr("stunet.batch.outputs.write_json", lambda *_: (_ for _ in ()).throw(UserError("disk full")))
    with pytest.raises(UserError, match="disk full"):
        write_outputs(segmentation, tmp_path / "case.nii.gz", Outputs(statistics=True))
    assert not list(tmp_path.iterdir())


def test_names_that_do_not_suit(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="needs a folder"):
        Outputs(separate=True).require_main_path(tmp_path / "labels.nii.gz")
    with pytest.raises(UserError, match="needs a folder"):
        Outputs(separate=True).require_main_path(tmp_path / "file")
    with pytest.raises(UserError, match=r"ends in one of \.nii, \.nii\.gz, .*\.seg\.nrrd"):
        Outputs().require_main_path(tmp_path / "labels.mgz")
    for name in ("labels.mha", "LABELS.NII.GZ", "labels.Seg.NRRD", "lost/labels.nii.gz"):
        Outputs().require_main_path(tmp_path / name)
