"""Pictures of the page for the docs, made on demand: STUNET_PICTURES=docs/images pytest -m slow tests/serve/page/..."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread

from tests.serve.page.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.slow]

DESK = {"viewport": {"width": 1360, "height": 850}}
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "device_scale_factor": 2}


def test_pictures_for_the_docs(visit: Callable[..., Visitor], shared_data: Path, pictures: Path):
    """The CT is TotalSegmentator's example, and the labels are those that come with it."""
    example = shared_data / "totalseg_example"
    scan = example / "ct.nii.gz", example / "labels_stunet104.nii.gz"
    photograph(visit(**DESK, color_scheme="light"), scan, pictures / "page-light.png", pictures)
    photograph(visit(**DESK, color_scheme="dark"), scan, pictures / "page-dark.png")
    photograph(visit(**PHONE, color_scheme="light"), scan, pictures / "page-phone.png")
    assert (
        brightness_of_the_corner(pictures / "page-light.png")
        > 0.9
        > 0.2
        > brightness_of_the_corner(pictures / "page-dark.png")
    )


def brightness_of_the_corner(picture: Path) -> float:
    """Of the head of the page, above the images: 0 is black."""
    return float(imread(picture)[4:12, 400:500, :3].mean())


def assert_shows_structures(picture: Path) -> None:
    """Many colours: the greys of the scan, and the structures over it and in 3D."""
    colours = np.unique((imread(picture)[..., :3] * 255).astype(np.uint8).reshape(-1, 3) // 16, axis=0)
    assert len(colours) > 300, "a page without images has few colours"


def photograph(visitor: Visitor, scan: tuple[Path, ...], picture: Path, before: Path | None = None) -> None:
    """The result; the progress too, where there is a folder for it."""
    page = visitor.page
    page.set_input_files("#file", scan)
    visitor.choose_model("copy")
    page.click("#segment")
    if before:
        page.locator("#stage-detail", has_text="window").wait_for()
        page.screenshot(path=before / "page-progress.png")
    visitor.wait_for_result()
    page.locator("tr[data-name=liver] button").click()
    page.locator("#view[data-solid=drawn]").wait_for()
    page.evaluate("window.scrollTo(0, 0)")
    page.screenshot(path=picture)
    assert page.locator("tr[data-name]").count() == 57
    assert_shows_structures(picture)
