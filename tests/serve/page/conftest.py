"""A headless Chromium, and servers whose answers are known."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from stunet.labels.ontology import LABELS
from tests.serve.conftest import RunningServer
from tests.serve.page.level_model import save_level_model
from tests.serve.page.visitor import Visitor

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

OPTIONS = ("--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader")
"""Chromium as root, and WebGL without a graphics card."""

TISSUES = {"background": -1000, "fat": -100, "soft_tissue": 50, "bone": 500}
"""Structures of the model `tissues`, and the Hounsfield units that are typical of each."""


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed; make test installs it")
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; as root, make test installs Debian's")
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(OPTIONS))
        yield running
        running.close()


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`tissues` tells tissues of a CT by their Hounsfield units; `copy` gives the second channel as labels."""
    folder = tmp_path_factory.mktemp("models")
    tissues = folder / "tissues.safetensors"
    copy = folder / "copy.safetensors"
    save_level_model(tissues, tuple(TISSUES.values()), tuple(TISSUES), ("CT",), (3.0, 3.0, 3.0))
    save_level_model(copy, range(len(LABELS)), LABELS, ("CT", "labels"), (3.0, 3.0, 3.0))
    return {"tissues": tissues, "copy": copy}


@pytest.fixture(scope="session")
def page_server(models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    offered = ("hippocampus", *(str(path) for path in models.values()))
    running = RunningServer(tmp_path_factory.mktemp("server"), "--models", *offered)
    yield running
    running.kill()


@pytest.fixture
def visit(browser: "Browser", page_server: RunningServer) -> Iterator[Callable[..., Visitor]]:
    """Opens the page as a new person; options are those of a context of Playwright. Whoever visits leaves no error."""
    visitors = []

    def open_page(**options: object) -> Visitor:
        visitors.append(Visitor(browser, page_server.url, **options))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.leave()


@pytest.fixture
def visitor(visit: Callable[..., Visitor]) -> Visitor:
    return visit(viewport={"width": 1360, "height": 850})


@pytest.fixture(scope="session")
def ct(shared_data: Path) -> Path:
    """30 slices of a real abdomen, 3 mm."""
    return shared_data / "totalseg_example" / "ct_crop.nii.gz"


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where pictures for the docs are written; skipped unless asked for."""
    folder = os.environ.get("STUNET_PICTURES")
    if not folder:
        pytest.skip("writes pictures for the docs; ask for it with STUNET_PICTURES=docs/images")
    return Path(folder)
