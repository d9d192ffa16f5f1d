"""From a real scan to what is seen and saved, in Chromium."""

from itertools import product
from pathlib import Path
from typing import get_args

import nibabel
import numpy as np
import pytest

from stunet.inference.predictor import Predictor
from stunet.serve.routes.results import FormatName
from tests.serve.page.conftest import TISSUES
from tests.serve.page.visitor import Visitor, changed

pytestmark = pytest.mark.browser


def test_the_demo_is_two_clicks(visitor: Visitor):
    visitor.page.click("#demo")
    visitor.page.click("#segment")
    visitor.wait_for_result()
    assert set(visitor.volumes()) == {"Anterior", "Posterior"}


def test_a_ct_from_drop_to_files(visitor: Visitor, ct: Path, models: dict[str, Path], tmp_path: Path):
    expected = Predictor(str(models["tissues"])).predict(ct)
    by_intensity = np.abs(expected.scan.array[0][..., None] - np.array(list(TISSUES.values()))).argmin(axis=-1)
    assert (expected.labels == by_intensity).mean() > 0.99

    visitor.drop(ct)
    visitor.choose_model("tissues")
    seen = visitor.segment()
    assert_progress(seen)
    assert_volumes(visitor)
    assert_jump(visitor)
    assert_overlay(visitor, expected)

    assert_formats(visitor)
    saved = nibabel.load(visitor.save("nifti", tmp_path))
    assert np.array_equal(np.asanyarray(saved.dataobj).T, expected.labels)
    assert np.allclose(saved.affine, expected.affine)
    visitor.page.get_by_label("only those that are shown").check()
    visitor.page.click("#tab-structures")
    visitor.page.click("#hide-all")
    visitor.toggle("Bone")
    bone = np.asanyarray(nibabel.load(visitor.save("nifti", tmp_path)).dataobj).T
    assert np.array_equal(bone > 0, expected.labels == 3)


def assert_progress(seen: list[tuple[float, str, str]]) -> None:
    shares, stages, details = zip(*seen, strict=True)
    assert list(shares) == sorted(shares) and "Running the network" in stages
    assert any("window" in detail and "left" in detail for detail in details)


def assert_volumes(visitor: Visitor) -> None:
    statistics = {one["name"]: one["volume_mm3"] for one in visitor.api("statistics").json()}
    shown = visitor.volumes()
    assert statistics.keys() == shown.keys() == {"fat", "soft_tissue", "bone"}
    for name, text in shown.items():
        assert float(text) == pytest.approx(statistics[name] / 1000, rel=0.005)


def assert_formats(visitor: Visitor) -> None:
    """Every format of the server is offered; those of DICOM are not for this scan."""
    buttons = visitor.page.locator("[data-format]")
    offered = {one.get_attribute("data-format"): one.is_enabled() for one in buttons.all()}
    assert set(offered) == set(get_args(FormatName))
    assert {name for name, enabled in offered.items() if not enabled} == {"dicom-seg", "dicom-seg-binary", "rtstruct"}


def assert_overlay(visitor: Visitor, expected) -> None:
    """The picture changes with the checkbox of soft tissue inside of it, and not outside; edges are left out."""
    visitor.page.get_by_role("button", name="Axial", exact=True).click()
    height, width, _ = visitor.picture().shape
    inside, outside = [], []
    for place in product((0.1, 0.26, 0.42, 0.58, 0.74, 0.9), (0.1, 0.3, 0.5, 0.7, 0.9)):
        pixel = width * place[0], height * place[1]
        visitor.click_at(*pixel)
        mm, name = visitor.place()
        x, y, z = np.rint(np.linalg.inv(expected.affine) @ (*mm, 1))[:3].astype(int)
        assert name == ["", "Fat", "Soft tissue", "Bone"][expected.labels[z, y, x]]
        if around(expected.labels == 2, (z, y, x), 1).all():
            inside.append(pixel)
        elif not around(expected.labels == 2, (z, y, x), 2).any():
            outside.append(pixel)
    assert len(inside) > 2 and len(outside) > 2
    visitor.click_at(width * 0.01, height * 0.01)
    shown = visitor.picture()
    visitor.toggle("Soft tissue")
    hidden = visitor.picture()
    visitor.toggle("Soft tissue")
    assert all(changed(shown, hidden, pixel) for pixel in inside)
    assert not any(changed(shown, hidden, pixel) for pixel in outside)


def around(mask: np.ndarray, voxel: tuple[int, int, int], reach: int) -> np.ndarray:
    """The part of a mask within so many voxels."""
    return mask[tuple(slice(max(0, n - reach), n + reach + 1) for n in voxel)]


def assert_jump(visitor: Visitor) -> None:
    visitor.page.locator("tr[data-name=bone] button").click()
    assert visitor.place()[1] == "Bone"
