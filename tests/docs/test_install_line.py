"""stunet is not on PyPI. Docs and messages give one form of the command that installs it: in the clone."""

import re
from importlib.metadata import metadata

import pytest

from stunet.extras import how_to_install
from tests.conftest import REPOSITORY
from tests.docs.blocks import PAGES

EXTRAS = set(metadata("stunet").get_all("Provides-Extra"))
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
EXAMPLES = sorted(path for path in (REPOSITORY / "examples").iterdir() if path.is_file())
INSTALL = re.compile(r"pip install\s+('[^'\n]*'|[^\s`]+)")
IN_THE_CLONE = re.compile(r"'?\.(?:\[([\w,]+)\])?'?")


def name_of(path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def test_no_extra_is_installed_by_the_name_of_the_package():
    paths = [*PAGES, *SOURCES, *EXAMPLES]
    assert [name_of(path) for path in paths if "stunet[" in path.read_text(encoding="utf-8")] == []


@pytest.mark.parametrize("page", [*PAGES, *EXAMPLES], ids=name_of)
def test_docs_install_in_the_clone_and_name_extras_that_exist(page):
    text = page.read_text(encoding="utf-8").replace("**`pip install stunet` does not find it.**", "")
    for command in INSTALL.findall(text):
        form = IN_THE_CLONE.fullmatch(command)
        assert form or "stunet" not in command, command  # other programs have other packages
        assert form is None or set((form[1] or "all").split(",")) <= EXTRAS


def test_messages_have_the_command_from_one_place():
    assert [name_of(path) for path in SOURCES if "pip install '." in path.read_text()] == ["src/stunet/extras.py"]


def test_messages_name_extras_that_exist():
    calls = re.compile(r"""(?:from_extra|how_to_install)\(["'](\w+)["']\)""")
    named = {extra for path in SOURCES for extra in calls.findall(path.read_text())}
    assert named and named <= EXTRAS


def test_the_message_and_the_docs_have_the_same_command():
    assert INSTALL.findall(how_to_install("train")) == ["'.[train]'"]
    assert any("'.[train]'" in INSTALL.findall(page.read_text(encoding="utf-8")) for page in PAGES)
