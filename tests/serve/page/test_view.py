"""The tools of the view, in Chromium, on the demo scan."""

from collections.abc import Callable

import nibabel
import numpy as np
import pytest

from tests.serve.page.visitor import Visitor

pytestmark = pytest.mark.browser


def share_changed(one: np.ndarray, other: np.ndarray) -> float:
    """The share of pixels whose colour differs."""
    return float((np.abs(one - other).max(axis=-1) > 0.04).mean())


def test_the_tools_change_the_picture(visitor: Visitor):
    page = visitor.page
    page.click("#demo")
    visitor.choose_model("hippocampus")
    page.click("#segment")
    visitor.wait_for_result()
    page.locator("#view[data-solid=drawn]").wait_for()
    filled = visitor.picture()

    page.click("#outline")
    outlines = visitor.picture()
    page.click("#outline")
    page.locator("#opacity").fill("100")
    opaque = visitor.picture()
    assert share_changed(filled, outlines) > 0 and share_changed(filled, opaque) > 0
    page.locator("#opacity").fill("50")
    assert share_changed(filled, visitor.picture()) < 0.001, "the tools undo what they did"

    page.click("#measure")
    height, width, _ = filled.shape
    page.locator("#planes").hover(position={"x": width * 0.15, "y": height * 0.2})
    page.mouse.down()
    page.locator("#planes").hover(position={"x": width * 0.35, "y": height * 0.3})
    page.mouse.up()
    yellow = (visitor.picture() - filled)[..., 0] - (visitor.picture() - filled)[..., 2] > 0.3
    assert yellow.sum() > 50, "a yellow line with its length"
    page.click("#measure")

    page.get_by_role("button", name="3D", exact=True).click()
    solid = visitor.picture()
    page.click("#hide-all")
    assert share_changed(solid, visitor.picture()) > 0.02
    empty = visitor.picture()
    assert share_changed(empty, empty[:1, :1]) < 0.005, "nothing is left in 3D"


READ_COARSELY = """async (file) => {
  const { LabelImage } = await import("/labelimage.js");
  const whole = await LabelImage.read(new Uint8Array(file).buffer, [], "labels.nii");
  const coarse = await whole.atMost(40, []);
  return [await whole.atMost(1000, []) === whole, [...coarse.labels], coarse.dims, coarse.image.hdr.affine];
}"""


def test_the_view_in_3d_gets_every_second_voxel_of_many(visit: Callable[..., Visitor]):
    labels = np.arange(7 * 6 * 5, dtype=np.uint8).reshape(7, 6, 5)
    affine = nibabel.affines.from_matvec([[-0.7, 0, 0], [0, 0.1, 1.1], [0, 0.9, 0]], [10, -20, 30])
    file = nibabel.Nifti1Image(labels, affine).to_bytes()
    is_kept, values, dims, coarse_affine = visit().page.evaluate(READ_COARSELY, list(file))
    assert is_kept and dims == [4, 3, 3]
    np.testing.assert_array_equal(np.reshape(values, dims, order="F"), labels[::2, ::2, ::2])
    np.testing.assert_allclose(coarse_affine, affine @ np.diag([2, 2, 2, 1]), atol=1e-6)
