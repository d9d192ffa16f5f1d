"""Every command and every piece of Python in README and docs: parsed by the real command line, and run.

The blocks of a page run in order in one folder, which holds small stand-ins for what the pages speak of. Comments
before a block say how its test differs from the page:

- `<!-- the test replaces: "--gpus 2" "--gpus 2 --device cpu" -->`: pairs of what the page says and what the test runs.
- `<!-- needs: Orthanc -->`: the block is left out, and counted, where this program or module is not installed.
- `<!-- not run: REASON -->`: no test runs it. Its commands are parsed all the same.
- `<!-- serves -->`, `<!-- exit code: 2 -->`, `<!-- this is printed -->`: see `tests.docs.blocks`.

The trainings of experiments have few cases and one iteration.
"""

import ast
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from _pytest.mark.structures import ParameterSet

from stunet.cli.main import parse
from tests.docs.blocks import LONG, PAGES, arguments_of, blocks_of
from tests.docs.running import exit_codes, in_shell
from tests.docs.serving import Server, is_here

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [block for block in BLOCKS if block.is_run and (block.needs is None or is_here(block.needs))]
LANGUAGES = {"bash", "python", "text", "toml", "json"}


def name_of(block) -> str:
    return block.name


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_the_language_is_named(block):
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "bash"], ids=name_of)
def test_every_command_is_one_that_stunet_knows(block):
    for command in block.commands:
        arguments = arguments_of(command)
        if arguments and arguments != ["--version"]:
            assert callable(parse(arguments).run), arguments


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=name_of)
def test_every_piece_of_python_is_python(block):
    assert ast.parse(block.text).body


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.replaced], ids=name_of)
def test_what_is_replaced_is_there(block):
    assert block.as_tested != block.text


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.needs], ids=name_of)
def test_what_a_block_needs_is_here(block):
    if not is_here(block.needs):
        pytest.skip(f"{block.name} is not run, for {block.needs} is not installed")
    assert block in RUN


def runs() -> Iterator[ParameterSet]:
    """Each page with blocks to run, and the size of its `base`; slow where it trains."""
    for page in PAGES:
        blocks = [block for block in RUN if block.page == page and not block.installs]
        trains = any(word in block.text for block in blocks for word in LONG)
        size = "base" if any("--from base" in block.text for block in blocks) else "tiny"
        if blocks:
            yield pytest.param(page, size, id=page.name, marks=[pytest.mark.slow] if trains else [])


@pytest.mark.parametrize(("page", "models"), runs(), indirect=["models"])
def test_a_page_runs_from_top_to_bottom(page, workplace, server, short_trainings, capsys):
    namespace, printed = {"__name__": "__main__"}, ""
    for block in (block for block in BLOCKS if block.page == page):
        if "this is printed" in block.comments:
            assert block.text.split() == printed.split(), block.name
        if block not in RUN or block.installs:
            continue
        text = block.as_tested
        if f"--server {Server.documented}" in text:
            server.start_any()
        text = text.replace(Server.documented, server.url)
        if block.serves:
            server.start(text.split())
        elif block.language == "python":
            exec(compile(text, block.name, "exec"), namespace)
            printed = capsys.readouterr().out
        else:
            codes = exit_codes(block, text)
            output = capsys.readouterr()
            assert set(codes) == {block.exit_code}, f"{block.name}: {codes}\n{output.out}{output.err}"
            printed = output.out + output.err


@pytest.fixture(scope="session")
def registry() -> None:
    """A registry of packages can be reached."""
    asked = [sys.executable, "-m", "pip", "index", "versions", "hatchling", "--timeout", "5", "--retries", "0"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no registry of packages can be reached")


INSTALLS = {block.as_tested: block.name for block in RUN if block.installs}
"""Each list of such commands once, and a place where it stands."""


@pytest.mark.slow
@pytest.mark.parametrize("commands", INSTALLS, ids=INSTALLS.values())
def test_what_is_to_be_installed_can_be(commands, registry, clone, capsys):
    assert in_shell(commands) == 0, capsys.readouterr().err


def test_what_is_run_is_counted(capsys):
    counts = Counter((block.language, block in RUN) for block in BLOCKS if block.language in ("bash", "python"))
    with capsys.disabled():
        for language in ("bash", "python"):
            done, left = counts[language, True], counts[language, False]
            print(f"\n{language}: {done + left} blocks in README and docs, {done} run, {left} parsed only", end="")
    assert counts["python", True] > counts["python", False]
