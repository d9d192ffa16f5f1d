"""What a person does on the page, step by step, and what the browser noticed meanwhile."""

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from matplotlib.image import imread

PATIENCE = 60_000
"""Milliseconds to wait for anything: WebGL in software on a busy machine is slow."""

WATCH_PROGRESS = """() => {
  window.seen = [];
  const look = () => window.seen.push([
    document.getElementById("progress-bar").value,
    document.getElementById("stage").textContent,
    document.getElementById("stage-detail").textContent,
  ]);
  const options = { subtree: true, childList: true, characterData: true };
  new MutationObserver(look).observe(document.getElementById("progress"), options);
}"""


class Visitor:
    """One person with a browser of their own.

    Args:
        browser: of Playwright.
        url: of the server.
        options: of Playwright's `Browser.new_context`.
    """

    def __init__(self, browser: Any, url: str, **options: Any):
        self.url = url
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(PATIENCE)
        self.requested: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requested.append(request.url))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self._note(message))
        self.page.goto(url)

    def _note(self, message: Any) -> None:
        """What the browser says, such as what its content policy forbids; an answer 404 of the API is no fault."""
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.complaints.append(message.text)

    def leave(self) -> None:
        """Close the browser. Nothing was asked of another machine, and no script failed."""
        self.context.close()
        assert self.requested and not self.complaints
        own = urlsplit(self.url).netloc
        elsewhere = [url for url in self.requested if urlsplit(url).scheme not in ("data", "blob")]
        assert {urlsplit(url).netloc for url in elsewhere} == {own}

    # A scan comes in

    def drop(self, *paths: Path) -> None:
        """Drop files or folders onto the page, as with a mouse."""
        box = self.page.locator("#drop").bounding_box()
        middle = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
        mouse = self.context.new_cdp_session(self.page)
        for kind in ("dragEnter", "dragOver", "drop"):
            mouse.send("Input.dispatchDragEvent", {"type": kind, **middle, "data": data})

    def choose_model(self, name: str) -> None:
        self.page.locator("#setup").wait_for()
        self.page.check(f"input[name=model][value={name}]")

    def segment(self) -> list[tuple[float, str, str]]:
        """Start, and wait for the result. Returns what was shown meanwhile: share, stage and detail."""
        self.page.evaluate(WATCH_PROGRESS)
        self.page.click("#segment")
        self.wait_for_result()
        return [tuple(one) for one in self.page.evaluate("window.seen")]

    def wait_for_result(self) -> None:
        self.page.locator("#result").wait_for()
        self.page.locator("#loading").wait_for(state="hidden")

    # What is there to see

    def picture(self) -> np.ndarray:
        """(H, W, 3) float32, 0 to 1: what the pictures of the scan show now."""
        return imread(io.BytesIO(self.page.locator("#view").screenshot()), format="png")[..., :3]

    def click_at(self, x: float, y: float) -> None:
        """Put the cross there: pixels of `picture`."""
        self.page.locator("#planes").click(position={"x": x, "y": y})

    def place(self) -> tuple[tuple[float, float, float], str]:
        """Where the cross is, RAS+ mm, and the structure there."""
        text = self.page.locator("#location").inner_text()
        letters = re.findall(r"([\d.]+) ([LRPAIS])", text)
        x, y, z = (-float(number) if letter in "LPI" else float(number) for number, letter in letters)
        parts = text.split(" · ")
        return (x, y, z), parts[2] if len(parts) > 2 else ""

    def volumes(self) -> dict[str, str]:
        """Millilitres by name, as the table says."""
        rows = self.page.locator("tr.structure").all()
        return {row.get_attribute("data-name"): row.locator("td").nth(2).inner_text() for row in rows}

    def api(self, path: str) -> Any:
        """What the API answers this person about the job on screen."""
        job = self.page.url.split("#job/")[1]
        return self.context.request.get(f"{self.url}/api/v1/jobs/{job}/{path}")

    def toggle(self, name: str) -> None:
        """Show or hide a structure or a group, by what is written beside it."""
        self.page.get_by_role("checkbox", name=f"Show {name}", exact=True).click()

    def save(self, format_name: str, folder: Path) -> Path:
        """Download a file."""
        self.page.click("#tab-save")
        with self.page.expect_download() as download:
            self.page.click(f"[data-format='{format_name}']")
        path = folder / download.value.suggested_filename
        download.value.save_as(path)
        return path

    def error(self) -> str:
        """The sentence at the top of the page."""
        self.page.locator("#error").wait_for()
        return self.page.locator("#error").inner_text()


def changed(one: np.ndarray, other: np.ndarray, pixel: Sequence[float]) -> bool:
    """Whether two pictures differ in colour at a pixel (x, y)."""
    x, y = (int(value) for value in pixel)
    return bool(np.abs(one[y, x] - other[y, x]).max() > 0.04)
