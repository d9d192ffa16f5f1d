"""A server with tokens, in Chromium."""

from collections.abc import Iterator

import pytest

from tests.serve.conftest import RunningServer
from tests.serve.page.visitor import Visitor

pytestmark = pytest.mark.browser

TOKEN = "a token that nobody guesses"


@pytest.fixture
def closed_server(tmp_path) -> Iterator[RunningServer]:
    running = RunningServer(tmp_path / "server", "--models", "hippocampus", STUNET_TOKENS=f"anna:{TOKEN}")
    yield running
    running.kill()


def test_the_page_asks_for_the_token_once(browser, closed_server: RunningServer):
    visitor = Visitor(browser, closed_server.url)
    page = visitor.page
    page.locator("#login").wait_for()
    page.locator("#token").fill("a wrong token, quite surely")
    page.keyboard.press("Enter")
    page.locator("#login-error").wait_for()
    page.locator("#token").fill(TOKEN)
    page.keyboard.press("Enter")
    page.locator("#login").wait_for(state="hidden")
    page.click("#demo")
    page.locator("#setup").wait_for()
    page.reload()
    page.click("#demo")
    page.locator("#setup").wait_for()
    assert page.locator("#login").is_hidden()
    assert not any(TOKEN in url for url in visitor.requested)
    visitor.leave()
