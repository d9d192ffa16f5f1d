"""Every command and every piece of Python in README and docs: parsed by the real command line, and run.

The blocks of a page run in order in one folder, which holds what the pages speak of. A block that cannot run here says
why in a comment before it, `<!-- not run: REASON -->`; its commands are parsed all the same.
"""

import ast
import datetime
import json
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK
from _pytest.mark.structures import ParameterSet
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from stunet.cli.main import parse, run
from stunet.labels.ontology import LABELS
from stunet.networks.registry import build, network_spec
from stunet.weights.model_file import save_model
from tests.conftest import REPOSITORY
from tests.docs.blocks import PAGES, Block, arguments_of, blocks_of
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
            assert callable(parse(arguments).run), arguments


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "bash"], ids=name_of)
def test_what_installs_is_not_counted_as_run(block):
    installs = any(command[0] in ("pip", "make", "source", "eval") for command in block.commands)
    assert block.reason is not None or not installs


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "python"], ids=name_of)
def test_every_piece_of_python_is_python(block):
    assert ast.parse(block.text).body


@pytest.fixture(scope="module", params=["tiny"])
def models(request, tmp_path_factory):
    """A folder with `base` as if it had been downloaded: a network with random weights stands for it.

    It is as large as `base` where a page fine-tunes it, and else of the size `tiny`.
    """
    folder = tmp_path_factory.mktemp("models")
    network = build(network_spec(request.param, 1, 105, strides=STRIDES))
    named = replace(card(network, COARSE), name="base", labels=LABELS, channels=("CT",))
    save_model(folder / "base.safetensors", network.state_dict(), named)
    return folder


@pytest.fixture
def workplace(models, shared_data, tmp_path, monkeypatch):
    """The folder in which a page's blocks run, in a home folder of its own, with a dataset that can be trained on."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("STUNET_HOME", raising=False)
    home = tmp_path / ".stunet"
    home.mkdir()
    (home / "models").symlink_to(models)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    hippocampus = shared_data / "Dataset004_Hippocampus"
    images, labels = (sorted((hippocampus / name).glob("*.nii.gz"))[:50] for name in ("imagesTr", "labelsTr"))
    shutil.copy(images[0], "scan.nii.gz")
    shutil.copy(images[0], "new_scan.nii.gz")
    shutil.copy(shared_data / "totalseg_example" / "ct_crop.nii.gz", "ct.nii.gz")
    for folder, files in (("scans", images), ("imagesTr", images), ("labelsTr", labels), ("references", labels)):
        copy_into(Path(folder), files[:3])
    for folder, shift in (("predictions", 0), ("ours", 0), ("theirs", 1)):
        copy_into(Path(folder), labels[:3], shift)
    shutil.copy(hippocampus / "dataset.json", "dataset.json")
    Path("transfer").mkdir()
    for place in ("results.json", "transfer/transfer.json"):
        shutil.copy(REPOSITORY / "docs" / "experiments" / "transfer.json", place)
    for name in ("base", "spine"):
        shutil.copy(models / "base.safetensors", f"{name}.safetensors")
    write_certificate(Path("cert.pem"), Path("key.pem"))
    Path("tokens.txt").write_text(f"anna:{'5e' * 24}\n")
    Path("tokens.txt").chmod(0o600)
    Path("examples").symlink_to(REPOSITORY / "examples")
    raw = home / "raw" / "Dataset004_Hippocampus"
    for folder, files in (("imagesTr", images), ("labelsTr", labels)):
        (raw / folder).mkdir(parents=True)
        for file in files:
            shutil.copy(file, raw / folder)
    states = json.loads((hippocampus / "dataset.json").read_text()) | {"numTraining": len(images)}
    (raw / "dataset.json").write_text(json.dumps(states))
    ct = nibabel.load("ct.nii.gz")
    slices = np.asarray(ct.dataobj).T[:8].astype(np.int16)
    for folder, study in (
        ("dicom_folder", "1.2.3.6"),
        ("patients/p1/day1", "1.2.3.8"),
        ("patients/p2/day1", "1.2.3.9"),
    ):
        write_dicom_series(
            Path(folder), slices, FrameOfReferenceUID="1.2.3.7", StudyInstanceUID=study, SeriesInstanceUID=f"{study}.5"
        )
    series = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames("dicom_folder")
    SimpleITK.WriteImage(SimpleITK.ReadImage(series), "converted.nii.gz")
    return tmp_path


class Server:
    """The server of a page, one at a time, on a port that is free."""

    documented = "http://127.0.0.1:8000"
    """The address in the documentation."""

    def __init__(self, data: Path):
        self.url, self._data, self._running = self.documented, data, None

    def start(self, command: list[str]) -> None:
        """Start it as a page says, in place of the one before."""
        from tests.serve.conftest import RunningServer

        self.end()
        assert command[:2] == ["stunet", "serve"]
        self._running = RunningServer(self._data, *command[2:])
        self.url = self._running.url

    def start_any(self) -> None:
        """Start it if the page has started none."""
        if self._running is None:
            self.start(["stunet", "serve"])

    def end(self) -> None:
        if self._running is not None:
            self._running.kill()


@pytest.fixture
def server(workplace):
    """Of a page; it ends with the page."""
    one = Server(workplace / ".stunet" / "serve")
    yield one
    one.end()


def write_certificate(certificate: Path, key: Path) -> None:
    """A certificate for ct.example.org that nobody signed."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "ct.example.org")])
    private, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.timezone.utc)
    builder = x509.CertificateBuilder(subject, subject, private.public_key(), x509.random_serial_number())
    signed = builder.not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    certificate.write_bytes(signed.sign(private, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key.write_bytes(private.private_bytes(*form))


def copy_into(folder: Path, files, shift: int = 0) -> None:
    folder.mkdir()
    for file in files:
        image = nibabel.load(file)
        array = np.roll(np.asarray(image.dataobj), shift, axis=0)
        nibabel.save(nibabel.Nifti1Image(array, image.affine, image.header), folder / file.name)


def runs() -> Iterator[ParameterSet]:
    """Each page with blocks to run, and the size of its `base`; slow where it trains."""
    for page in PAGES:
        blocks = [block for block in blocks_of(page) if block.language in ("bash", "python") and not block.reason]
        trains = any(block.added for block in blocks)
        size = "base" if any("--from base" in block.text for block in blocks) else "tiny"
        if blocks:
            yield pytest.param(page, size, id=page.name, marks=[pytest.mark.slow] if trains else [])


@pytest.mark.parametrize(("page", "models"), runs(), indirect=["models"])
def test_a_page_runs_from_top_to_bottom(page, workplace, server, capsys):
    namespace, printed = {"__name__": "a_page"}, ""
    for block in blocks_of(page):
        where = name_of(block)
        if block.serves:
            server.start(block.commands[0])
            continue
        if f"--server {Server.documented}" in block.text:
            server.start_any()
        block = replace(block, text=block.text.replace(Server.documented, server.url))
        if block.is_output:
            assert block.text.split() == printed.split(), where
        if block.reason is not None:
            continue
        if block.language == "python":
            exec(compile(block.text, where, "exec"), namespace)
            printed = capsys.readouterr().out
        elif block.language == "bash":
            codes = [exit_code(command, block) for command in block.commands]
            output = capsys.readouterr()
            assert set(codes) == {block.exit_code}, f"{where}: {codes}\n{output.err}"
            printed = output.out + output.err


def exit_code(command: list[str], block: Block) -> int:
    """Of a command as the test runs it; commands that install, and nnU-Net's, are not run."""
    if command[0] == "python":
        return subprocess.run([sys.executable, *command[1:]], check=False).returncode
    arguments = arguments_of(command)
    if arguments is None or arguments == ["--version"]:
        return 0
    try:
        return run(block.shortened(arguments))
    except SystemExit as end:
        return int(end.code or 0)


def test_what_is_run_is_counted(capsys):
    counts = Counter((block.language, block.reason is None) for block in BLOCKS if block.language in ("bash", "python"))
    with capsys.disabled():
        for language in ("bash", "python"):
            done, left = counts[language, True], counts[language, False]
            print(f"\n{language}: {done + left} blocks in README and docs, {done} run, {left} parsed only", end="")
    assert counts["python", True] > counts["python", False]
