"""For people who use a keyboard, a screen reader, a phone or dark colours."""

from collections.abc import Callable

import pytest

pytest.importorskip("axe_playwright_python", reason="axe-core is not installed; make test installs it")

from axe_playwright_python.sync_playwright import Axe

from tests.serve.page.visitor import Visitor

pytestmark = pytest.mark.browser


def assert_accessible(visitor: Visitor) -> None:
    """axe-core finds nothing serious."""
    found = Axe().run(visitor.page).response["violations"]
    bad = [one for one in found if one["impact"] in ("serious", "critical")]
    assert not bad, [(one["id"], [node["html"][:100] for node in one["nodes"][:3]]) for one in bad]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing_serious(visit: Callable[..., Visitor], colours: str):
    visitor = visit(color_scheme=colours, viewport={"width": 1280, "height": 800})
    page = visitor.page
    assert_accessible(visitor)
    page.click("#demo")
    page.locator("#setup").wait_for()
    page.get_by_text("Choose one by one").click()
    assert_accessible(visitor)
    page.click("#segment")
    page.locator("#progress").wait_for()
    assert_accessible(visitor)
    visitor.wait_for_result()
    for tab in ("structures", "compare", "save"):
        page.click(f"#tab-{tab}")
        assert_accessible(visitor)
    page.keyboard.press("Shift+?")
    page.locator("#keys").wait_for()
    assert_accessible(visitor)


def test_a_keyboard_is_enough(visitor: Visitor):
    page = visitor.page
    page.locator("#demo").focus()
    page.keyboard.press("Enter")
    page.locator("#setup").wait_for()
    assert page.evaluate("document.activeElement.id") == "setup-title"
    page.locator("#segment").focus()
    page.keyboard.press("Enter")
    visitor.wait_for_result()
    page.locator("tr[data-name=Anterior] button").focus()
    page.keyboard.press("Enter")
    (x, y, z), name = visitor.place()
    assert name == "Anterior"
    page.locator("#planes").focus()
    page.keyboard.press("PageUp")
    assert visitor.place()[0] == pytest.approx((x, y, z + 1))
    page.keyboard.press("ArrowLeft")
    assert visitor.place()[0] == pytest.approx((x + 1, y, z + 1))
    page.keyboard.press("o")
    assert page.locator("#outline").get_attribute("aria-pressed") == "true"
    page.keyboard.press("h")
    assert page.locator("tr.structure input:checked").count() == 0
    page.locator("#tab-structures").focus()
    page.keyboard.press("ArrowRight")
    assert page.locator("#panel-compare").is_visible()


def test_a_phone_shows_all_without_scrolling_sideways(visit: Callable[..., Visitor]):
    visitor = visit(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True)
    wide = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not visitor.page.evaluate(wide)
    visitor.page.click("#demo")
    visitor.page.locator("#setup").wait_for()
    assert not visitor.page.evaluate(wide)
    visitor.page.click("#segment")
    visitor.wait_for_result()
    assert not visitor.page.evaluate(wide)
