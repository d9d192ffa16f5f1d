"""The files of the page, without a browser."""

import json
import re

from stunet.serve.app import page_folder
from tests.conftest import REPOSITORY

VIEWER = page_folder() / "niivue"

OWN = [path for path in page_folder().rglob("*") if path.is_file() and VIEWER not in path.parents]

MOST_BYTES = 3_000_000


def test_the_page_is_small():
    assert sum(path.stat().st_size for path in OWN) < MOST_BYTES
    assert (VIEWER / "niivue.js").stat().st_size < MOST_BYTES


def test_nothing_is_loaded_from_another_host_and_nothing_is_inline():
    for path in OWN:
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"//[\w-]+\.\w", text), path.name
    page = (page_folder() / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"\sstyle=|\son\w+=|<style|<script(?![^>]* src=)", page)


def test_markup_is_never_made_of_text():
    for path in OWN:
        if path.suffix == ".js":
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", text), path.name


def test_every_module_that_is_imported_is_there():
    for path in OWN:
        if path.suffix == ".js":
            for name in re.findall(r'from "\./([^"]+)"', path.read_text(encoding="utf-8")):
                assert (page_folder() / name).is_file(), (path.name, name)


def test_the_notice_names_the_viewer_that_is_bundled():
    package = json.loads((REPOSITORY / "packaging" / "niivue" / "package.json").read_text())
    version = package["devDependencies"]["@niivue/niivue"]
    assert f"NiiVue](https://github.com/niivue/niivue) {version}" in (VIEWER / "NOTICE.md").read_text()
    assert f"NiiVue {version}" in (VIEWER / "LICENSES.txt").read_text()
    assert f'"{version}"' in (VIEWER / "niivue.js").read_text()
