"""Measure the page of `stunet serve` in a headless Chromium: first paint, and from "done" to a large result on screen.

First an overview is shown, every second voxel of 40 million along each axis; then all of them.

The scan is a real CT, enlarged to 40 million voxels. A network that knows tissues by their Hounsfield units segments
it. WebGL runs in software here, so drawing takes as long as this processor needs; the other parts are the page's own.

    PYTHONPATH=. python bench/page.py [--voxels 40e6] [--scan ../shared/data/totalseg_example/ct_crop.nii.gz]
"""

import argparse
import os
import re
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import nibabel
import numpy as np
import psutil
from playwright.sync_api import Browser, Page, sync_playwright
from scipy import ndimage

from tests.serve.conftest import RunningServer
from tests.serve.page.conftest import CHROMIUM, OPTIONS, TISSUES
from tests.serve.page.level_model import save_level_model
from tests.serve.page.visitor import Visitor

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))

PATIENCE_MS = 580_000

MARKS = {
    "result downloaded": "download of the overview",
    "WebGL ready": "WebGL: start, shaders",
    "scan unpacked": "gunzip and read the scan",
    "labels unpacked": "gunzip and read the labels",
    "planes drawn": "WebGL: upload, first picture of the planes",
    "solid drawn": "WebGL: the view in 3D, which follows",
    "whole drawn": "all voxels, which follow: download, gunzip, WebGL",
}
"""What the page notes in its performance timeline, and what ends there."""


def enlarged(scan: Path, output: Path, voxels: float) -> None:
    """Write a CT with about so many voxels, on smaller voxels."""
    image = nibabel.Nifti1Image.from_filename(scan)
    factor = (voxels / np.prod(image.shape)) ** (1 / 3)
    array = ndimage.zoom(np.asarray(image.dataobj), factor, order=1).astype(np.int16)
    affine = image.affine @ np.diag([*(np.array(image.shape) / array.shape), 1])
    nibabel.save(nibabel.Nifti1Image(array, affine), output)
    print(f"{' x '.join(map(str, array.shape))} voxels: {array.size / 1e6:.1f} million\n")


def first_paint(browser: Browser, url: str) -> float:
    """Seconds from the request of the page to its first content, for a new visitor."""
    visitor = Visitor(browser, url)
    visitor.page.screenshot()
    paint = visitor.page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
    visitor.leave()
    return float(paint) / 1000


def parts(page: Page) -> Iterator[tuple[str, float]]:
    """What follows "done", with its seconds."""
    times = page.evaluate(
        "(names) => names.map((name) => performance.getEntriesByName(name)[0].startTime)",
        ["result asked for", *MARKS],
    )
    for name, (start, end) in zip(MARKS.values(), pairwise(times), strict=True):
        yield name, (end - start) / 1000
    yield "**result on screen, as an overview**", (times[1 + list(MARKS).index("planes drawn")] - times[0]) / 1000
    yield "**all of its voxels on screen**", (times[-1] - times[0]) / 1000


def sizes(page: Page) -> str:
    """How many MB of images were downloaded."""
    bytes_of = page.evaluate(
        "performance.getEntriesByType('resource').filter((one) => /jobs\\/.*\\/(scan|labels)\\?/.test(one.name))"
        ".map((one) => [one.name.split('/').pop(), one.transferSize])"
    )
    return ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in bytes_of)


def processor_seconds() -> dict[str, float]:
    """Of Chromium's processes so far: JavaScript runs in the renderer, WebGL in the GPU process, also in software."""
    seconds = dict.fromkeys(("renderer", "gpu-process", "utility"), 0.0)
    for child in psutil.Process().children(recursive=True):
        kind = re.search(r"--type=(\S+)", " ".join(child.cmdline()))
        if kind and kind[1] in seconds:
            times = child.cpu_times()
            seconds[kind[1]] += times.user + times.system
    return seconds


def opened_again(visitor: Visitor) -> Iterator[str]:
    """Rows: the processor's seconds until the planes of the same result are on screen, by process."""
    visitor.page.goto("about:blank")
    before = processor_seconds()
    visitor.page.go_back()
    visitor.wait_for_result()
    for kind, seconds in processor_seconds().items():
        yield f"| {kind} | {seconds - before[kind]:.2f} |"


def measure(browser: Browser, url: str, scan: Path) -> None:
    """Visit the page, segment the scan, and print what took how long."""
    print(f"First paint after {min(first_paint(browser, url) for _ in range(3)):.2f} s, the best of three visits.")
    visitor = Visitor(browser, url, viewport={"width": 1360, "height": 850})
    visitor.page.set_default_timeout(PATIENCE_MS)
    visitor.page.locator("#drop").wait_for()
    visitor.drop(scan)
    visitor.choose_model("tissues")
    visitor.segment()
    visitor.page.wait_for_function("() => performance.getEntriesByName('whole drawn').length")
    print(f"Downloaded: {sizes(visitor.page)}.\n")
    print("| after done | seconds |", "|---|---|", sep="\n")
    for name, seconds in parts(visitor.page):
        print(f"| {name} | {seconds:.2f} |")
    print("", "| until the planes are drawn | seconds of the processor |", "|---|---|", sep="\n")
    print(*opened_again(visitor), sep="\n")
    visitor.leave()


def main() -> None:
    """Start a server and a browser, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--voxels", type=float, default=40e6)
    parser.add_argument("--scan", type=Path, default=SHARED / "data" / "totalseg_example" / "ct_crop.nii.gz")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        scan, model = Path(name) / "scan.nii.gz", Path(name) / "tissues.safetensors"
        enlarged(asked.scan, scan, asked.voxels)
        save_level_model(model, tuple(TISSUES.values()), tuple(TISSUES), ("CT",), (3.0, 3.0, 3.0))
        server = RunningServer(Path(name) / "data", "--models", str(model))
        try:
            with sync_playwright() as driver:
                browser = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
                measure(browser, server.url, scan)
                browser.close()
        finally:
            server.kill()


if __name__ == "__main__":
    main()
