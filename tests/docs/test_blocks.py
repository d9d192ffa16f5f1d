"""Every command and every piece of Python in README and docs: parsed by the real command line, and run.

The blocks of a page run in order in one folder, which holds what the pages speak of. A block that cannot run here says
why in a comment before it, `<!-- not run: REASON -->`; its commands are parsed all the same.
"""

import ast
import contextlib
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet.cli.main import parse, run
from stunet.labels.ontology import LABELS
from stunet.networks.registry import build, network_spec
from stunet.weights.model_file import save_model
from tests.docs.blocks import PAGES, arguments_of, blocks_of
from tests.inference.samples import STRIDES, card, plan
from tests.phantoms import write_dicom_series

BLOCKS = [block for page in PAGES for block in blocks_of(page)]
LANGUAGES = {"bash", "python", "text", "toml", "json"}


COARSE = plan(spacing=(6.0, 6.0, 6.0), patch_size=(16, 32, 32))
"""Few windows cover a CT."""


def name_of(block) -> str:
    return f"{block.page.name}:{block.line}"


@pytest.mark.parametrize("block", BLOCKS, ids=name_of)
def test_the_language_is_named(block):
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "bash"], ids=name_of)
def test_every_command_is_one_that_stunet_knows(block):
    for command in block.commands:
        arguments = arguments_of(command)
        if arguments and arguments != ["--version"]:
            parse(arguments)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=name_of)
def test_every_piece_of_python_is_python(block):
    ast.parse(block.text)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A STUNET_HOME where `base` has been downloaded: a tiny network of 105 classes stands for it."""
    folder = tmp_path_factory.mktemp("home")
    network = build(network_spec("tiny", 1, 105, strides=STRIDES))
    named = replace(card(network, COARSE), name="base", labels=LABELS, channels=("CT",))
    save_model(folder / "models" / "base.safetensors", network.state_dict(), named)
    return folder


@pytest.fixture
def workplace(home, shared_data, tmp_path, monkeypatch):
    """The folder in which a page's blocks run, with a STUNET_HOME of its own."""
    monkeypatch.setenv("STUNET_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    for shared in ("models", "cache"):
        (home / shared).mkdir(exist_ok=True)
        (tmp_path / "home" / shared).symlink_to(home / shared)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    hippocampus = shared_data / "Dataset004_Hippocampus"
    images, labels = (sorted((hippocampus / name).glob("*.nii.gz"))[:3] for name in ("imagesTr", "labelsTr"))
    shutil.copy(images[0], "scan.nii.gz")
    shutil.copy(shared_data / "totalseg_example" / "ct_crop.nii.gz", "ct.nii.gz")
    for folder, files in (("scans", images), ("imagesTr", images), ("labelsTr", labels), ("references", labels)):
        copy_into(Path(folder), files)
    for folder, shift in (("predictions", 0), ("ours", 0), ("theirs", 1)):
        copy_into(Path(folder), labels, shift)
    shutil.copy(hippocampus / "dataset.json", "dataset.json")
    ct = nibabel.load("ct.nii.gz")
    write_dicom_series(Path("dicom_folder"), np.asarray(ct.dataobj).T[:8].astype(np.int16))
    return tmp_path


def copy_into(folder: Path, files, shift=0) -> None:
    folder.mkdir()
    for file in files:
        image = nibabel.load(file)
        array = np.roll(np.asarray(image.dataobj), shift, axis=0)
        nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), folder / file.name)


RUN = [
    page
    for page in PAGES
    if any(block.language in ("bash", "python") and not block.reason for block in blocks_of(page))
]


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.name)
def test_a_page_runs_from_top_to_bottom(page, workplace, capsys):
    namespace = {"__name__": "a_page"}
    for block in blocks_of(page):
        if block.reason is not None:
            continue
        where = name_of(block)
        if block.language == "python":
            exec(compile(block.text, where, "exec"), namespace)
        elif block.language == "bash":
            for command in block.commands:
                assert exit_code(arguments_of(command)) == 0, f"{where}: {' '.join(command)}\n{capsys.readouterr().err}"


def exit_code(arguments) -> int:
    """Of a command of stunet's; others are not run here."""
    if arguments is None or arguments == ["--version"]:
        return 0
    with contextlib.suppress(SystemExit):
        return run(arguments)
    return 1


def test_what_is_run_is_counted(capsys):
    counts = Counter((block.language, block.reason is None) for block in BLOCKS if block.language in ("bash", "python"))
    with capsys.disabled():
        for language in ("bash", "python"):
            done, left = counts[language, True], counts[language, False]
            print(f"\n{language}: {done + left} blocks in README and docs, {done} run, {left} parsed only", end="")
    assert counts["python", True] > counts["python", False]
