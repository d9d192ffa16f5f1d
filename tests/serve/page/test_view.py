"""The tools of the view, in Chromium, on the demo scan."""

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
