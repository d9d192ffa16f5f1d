"""What comes before the result: bad files, the choice of structures, cancelling, the list of scans."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.serve.page.visitor import Visitor

pytestmark = pytest.mark.browser


def test_a_bad_file_shows_a_sentence(visitor: Visitor, shared_data: Path):
    visitor.drop(shared_data / "bad_inputs" / "truncated.nii.gz")
    sentence = visitor.error()
    assert sentence.endswith(".") and "truncated.nii.gz" not in visitor.page.title()
    assert not any(word in sentence for word in ("Traceback", "Error", "/tmp", "/home"))
    visitor.page.click("#demo")
    visitor.page.locator("#setup").wait_for()
    assert visitor.page.locator("#error").is_hidden()


def test_structures_are_chosen_by_group_by_search_and_one_by_one(visitor: Visitor, ct: Path):
    visitor.drop(ct)
    visitor.choose_model("copy")
    count = visitor.page.locator("#picker-count")
    assert count.inner_text() == "104 of 104 structures"
    visitor.page.get_by_role("button", name="Bones", exact=True).click()
    assert count.inner_text() == "59 of 104 structures"
    visitor.page.get_by_text("Choose one by one").click()
    visitor.page.get_by_label("Search", exact=True).fill("left kid")
    assert visitor.page.locator("#picker-list label:visible").all_inner_texts() == ["Left kidney"]
    visitor.page.get_by_label("Left kidney").check()
    assert count.inner_text() == "60 of 104 structures"


def test_a_job_is_cancelled_and_deleted_and_others_do_not_see_it(visit: Callable[..., Visitor], ct: Path):
    visitor = visit()
    visitor.drop(ct)  # it takes some seconds; the demo is done before a click
    visitor.choose_model("tissues")
    visitor.page.click("#segment")
    visitor.page.locator("#progress").wait_for()
    address = visitor.page.url
    visitor.page.click("#cancel")
    visitor.page.locator("#start").wait_for()
    state = visitor.page.locator("#jobs-rows .badge")
    state.wait_for()
    assert state.inner_text() == "cancelled"

    other = visit()
    assert other.page.locator("#jobs").is_hidden()
    other.page.goto(address)
    other.page.reload()
    assert other.error()

    visitor.page.get_by_role("button", name="Delete").click()
    visitor.page.locator("#jobs").wait_for(state="hidden")
