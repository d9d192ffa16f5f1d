"""`segmentation.show()`: a widget that holds scan, labels, names and colours; a picture; or a sentence."""

import gzip
import sys

import nibabel
import numpy as np
import pytest

import stunet
from stunet.errors import UserError
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, Timings
from stunet.labels.ontology import colour_of

AFFINE = np.array([[-1.0, 0, 0, 5], [0, -2.0, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]])


@pytest.fixture
def segmentation():
    """A scan with a liver and, at label 7, an aorta; a spleen was not found."""
    scan = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    labels = np.zeros(scan.shape, np.uint8)
    labels[1:4, 2:5, 3:6], labels[4, 5, 1:3] = 5, 7
    names = {0: "background", 1: "spleen", 5: "liver", 7: "aorta"}
    return Segmentation(labels, names, Volume(scan[None], AFFINE), Timings(0, 0, 0, 0))


def image_of(volume):
    """What a browser reads from a volume of the widget."""
    return nibabel.Nifti1Image.from_bytes(gzip.decompress(volume.data))


def test_a_widget_where_ipyniivue_is_installed(segmentation):
    ipyniivue = pytest.importorskip("ipyniivue", reason="the extra notebook is not installed")
    view = segmentation.show()
    assert isinstance(view, ipyniivue.NiiVue) and view.opts.is_radiological_convention
    scan, labels = view.volumes
    assert [scan.name, labels.name] == ["scan.nii.gz", "labels.nii.gz"]
    assert np.array_equal(np.asarray(image_of(scan).dataobj).T, segmentation.scan.array[0])
    assert np.array_equal(np.asarray(image_of(labels).dataobj).T, segmentation.labels)
    assert np.allclose(image_of(labels).affine, AFFINE)
    lut = labels.colormap_label
    rgba = np.reshape(lut.lut, (-1, 4))
    assert (lut.min, lut.max) == (0, 7) and rgba[0, 3] == 0
    assert [tuple(rgba[label, :3]) for label in (5, 7)] == [colour_of("liver", 5), colour_of("aorta", 7)]
    assert list(rgba[[5, 7], 3]) == [255, 255] and not rgba[[1, 2, 3, 4, 6]].any()
    assert (lut.labels[5], lut.labels[7]) == ("liver", "aorta")


def test_a_picture_without_ipyniivue(segmentation, monkeypatch, tmp_path):
    display = pytest.importorskip("IPython.display", reason="IPython is not installed")
    from stunet.pictures.preview import save_preview

    monkeypatch.setitem(sys.modules, "ipyniivue", None)
    picture = segmentation.show()
    assert isinstance(picture, display.Image)
    save_preview(tmp_path / "preview.png", segmentation.scan, segmentation.labels, segmentation.names)
    assert picture.data == (tmp_path / "preview.png").read_bytes()
    assert picture._repr_mimebundle_()[0]["image/png"]


def test_a_sentence_without_either(segmentation, monkeypatch):
    for name in ("ipyniivue", "IPython", "IPython.display"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"notebook.*in the clone of stunet, or write a picture with"):
        stunet.show(segmentation)
