"""The 3D Slicer module: its client against a running server, and its Slicer part against a stand-in for Slicer.

3D Slicer itself does not run here. The stand-in shows that the module imports and drives the client; it proves nothing
about Slicer.
"""

import ast
import http.server
import json
import sys
import threading
import time
from types import ModuleType, SimpleNamespace
from unittest.mock import MagicMock

import nibabel
import numpy as np
import pytest
import SimpleITK

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from stunet.imaging.formats.registry import read_labels
from stunet.inference.predictor import Predictor
from tests.conftest import REPOSITORY

MODULE = REPOSITORY / "integrations" / "slicer" / "STUNet"
SLICERS_OLDEST_PYTHON = (3, 9)


@pytest.fixture
def lib(monkeypatch):
    """`STUNetLib`, imported as Slicer does: from the folder of the module."""
    monkeypatch.syspath_prepend(str(MODULE))
    import STUNetLib.client
    import STUNetLib.run

    yield SimpleNamespace(client=STUNetLib.client, run=STUNetLib.run)
    for name in [name for name in sys.modules if name.split(".")[0] in ("STUNetLib", "STUNet")]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def expected(hippocampus):
    """Labels of a prediction in this process."""
    return Predictor("hippocampus").predict(hippocampus).labels


def ended(run, cancel_at=None):
    """What a run came to, and all that was seen on the way."""
    run.start()
    seen, deadline = [], time.monotonic() + 120
    while not seen or seen[-1].state == "running":
        assert time.monotonic() < deadline, seen[-1]
        seen.append(run.look(0.05))
        if cancel_at is not None and cancel_at in seen[-1].sentence:
            run.cancel()
    return seen[-1], seen


@pytest.mark.parametrize("path", sorted(MODULE.rglob("*.py")), ids=lambda path: path.name)
def test_it_is_the_python_of_slicer_and_needs_no_other_package(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=SLICERS_OLDEST_PYTHON)
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    ours = {"STUNetLib", "ctk", "qt", "slicer", "vtk"}
    assert {name.split(".")[0] for name in imported} <= set(sys.stdlib_module_names) | ours


def test_cmake_lists_every_file():
    listed = (MODULE / "CMakeLists.txt").read_text().replace("${MODULE_NAME}", "STUNet")
    files = [path.relative_to(MODULE).as_posix() for path in MODULE.rglob("*") if path.suffix in (".py", ".png")]
    assert len(files) == 5 and all(f"  {name}\n" in listed for name in files)


def test_models_and_their_structures(lib, server):
    there = lib.client.Server(server.url)
    assert there.require_same_version() == "0.1.0"
    models = {model.name: model for model in there.models()}
    assert [one.name for one in models["hippocampus"].structures] == ["Anterior", "Posterior"]
    assert not models["huge"].available


def test_labels_are_those_of_a_prediction_here(lib, server, client, hippocampus, expected, tmp_path):
    order = lib.run.Order("hippocampus")
    run = lib.run.Run(lib.client.Server(server.url), hippocampus, order, tmp_path / "labels.seg.nrrd")
    last, seen = ended(run)
    assert (last.state, last.fraction) == ("done", 1.0), last
    fractions = [one.fraction for one in seen]
    assert fractions == sorted(fractions) and len(set(fractions)) > 2
    assert np.array_equal(read_labels(tmp_path / "labels.seg.nrrd").array[0], expected)
    header = SimpleITK.ReadImage(str(tmp_path / "labels.seg.nrrd"))
    assert [header.GetMetaData(f"Segment{number}_Name") for number in (0, 1)] == ["Anterior", "Posterior"]
    assert client.jobs() == []  # the server has forgotten it
    assert [path.name for path in tmp_path.iterdir()] == ["labels.seg.nrrd"]


def test_only_some_structures_as_nifti(lib, server, hippocampus, expected, tmp_path):
    order = lib.run.Order("hippocampus", ("Posterior",), "nifti")
    last, _ = ended(lib.run.Run(lib.client.Server(server.url), hippocampus, order, tmp_path / "labels.nii.gz"))
    assert last.state == "done", last
    labels = np.asarray(nibabel.load(tmp_path / "labels.nii.gz").dataobj).T
    assert set(np.unique(labels)) == {0, 2} and np.array_equal(labels == 2, expected == 2)


def test_cancel_ends_it_on_the_server_too(lib, server, client, large_scan, tmp_path):
    order = lib.run.Order("hippocampus")
    run = lib.run.Run(lib.client.Server(server.url), large_scan, order, tmp_path / "labels.seg.nrrd")
    last, _ = ended(run, cancel_at="Window")
    assert (last.state, last.sentence) == ("cancelled", "Cancelled")
    assert client.jobs() == [] and not list(tmp_path.iterdir())


def test_what_the_server_refuses_is_a_sentence(lib, server, tmp_path):
    (tmp_path / "scan.nii").write_bytes(b"no image" * 100)
    order = lib.run.Order("hippocampus")
    last, _ = ended(lib.run.Run(lib.client.Server(server.url), tmp_path / "scan.nii", order, tmp_path / "labels.nii"))
    assert last.state == "failed" and last.sentence.endswith(".") and str(tmp_path) not in last.sentence
    with pytest.raises(lib.client.ServerError, match="There is no such scan"):
        lib.client.Server(server.url).submit("nothing", "hippocampus")


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("http://127.0.0.1:1", "cannot be reached"),
        ("127.0.0.1:8000", "is not an address such as"),
        ("http://user:secret@127.0.0.1", "is not an address such as"),
        ("http://127.0.0.1:port", "is not an address such as"),
        ("", "An empty line is not an address"),
    ],
)
def test_a_wrong_address_is_a_sentence(lib, address, sentence):
    with pytest.raises(lib.client.ServerError, match=sentence):
        lib.client.Server(address).require_same_version()


def answering(status, body):
    """The address of a server that answers all questions alike, and the headers that it was sent."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(dict(self.headers))
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:1/")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    listener = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    return listener, f"http://127.0.0.1:{listener.server_port}", asked


@pytest.mark.parametrize(
    ("status", "body", "sentence"),
    [
        (200, json.dumps({"status": "ok", "version": "9.9", "api": 2}).encode(), "stunet 9.9 with version 2 of its"),
        (200, b"<html>", "is not a server of stunet"),
        (302, b"", "is not a server of stunet"),
        (401, b'{"error": "Sign in with a token."}', "^Sign in with a token.$"),
    ],
)
def test_other_versions_and_other_servers_are_a_sentence(lib, status, body, sentence):
    listener, address, asked = answering(status, body)
    try:
        with pytest.raises(lib.client.ServerError, match=sentence):
            lib.client.Server(address, "a token").require_same_version()
    finally:
        listener.shutdown()
        listener.server_close()
    assert [headers["Authorization"] for headers in asked] == ["Bearer a token"]


class TextWidget(MagicMock):
    """A line, label or button: it knows its text, and does nothing else."""

    Password = 2

    def __init__(self, text="", **details):
        super().__init__(**details)
        self.text = text


class ListWidget(MagicMock):
    """A list of names, of which a test selects some."""

    def __init__(self, **details):
        super().__init__(**details)
        self.rows, self.selected = [], []

    @property
    def count(self):
        return len(self.rows)

    def clear(self):
        self.rows = []

    def addItem(self, name):  # noqa: N802
        tip = []
        self.rows.append(
            SimpleNamespace(text=lambda: name, toolTip=lambda: tip[-1], setToolTip=tip.append, setHidden=lambda _: None)
        )

    def item(self, row):
        return self.rows[row]

    def selectedItems(self):  # noqa: N802
        return [row for row in self.rows if row.text() in self.selected]


def a_node(name="Knee"):
    """A node of Slicer with the methods that the module calls."""
    node = SimpleNamespace(
        GetName=lambda: name,
        GetTransformNodeID=lambda: None,
        GetStorageNode=lambda: None,
        SetName=lambda name: setattr(node, "name", name),
        SetReferenceImageGeometryParameterFromVolumeNode=lambda volume: setattr(node, "reference", volume),
        SetAndObserveTransformNodeID=lambda transform: None,
    )
    return node


@pytest.fixture
def slicer_module(lib, monkeypatch, hippocampus):
    """The module, with stand-ins for Slicer's packages that export the hippocampus and load files as text."""
    loaded = []

    def export(node, path):
        nibabel.save(nibabel.load(hippocampus), path)
        return True

    def load(path):
        loaded.append(read_labels(path).array[0])
        return a_node()

    slicer, scripted = ModuleType("slicer"), ModuleType("slicer.ScriptedLoadableModule")
    slicer.util = SimpleNamespace(exportNode=export, loadSegmentation=load)
    slicer.app = SimpleNamespace(processEvents=lambda: None)
    slicer.mrmlScene, slicer.qMRMLNodeComboBox = MagicMock(), MagicMock
    for name in ("", "Widget", "Logic", "Test"):
        members = {"__init__": lambda self, *_: None, "setup": lambda self: None, "layout": MagicMock()}
        setattr(scripted, f"ScriptedLoadableModule{name}", type(f"Base{name}", (), members))
    qt = MagicMock(
        QLineEdit=TextWidget, QListWidget=ListWidget, QComboBox=MagicMock, QLabel=TextWidget, QPushButton=TextWidget
    )
    qt.QSettings.return_value.value.side_effect = lambda name, usual: usual
    stand_ins = {"slicer": slicer, "slicer.ScriptedLoadableModule": scripted, "qt": qt}
    stand_ins |= {name: MagicMock() for name in ("ctk", "vtk")}
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    import STUNet

    return STUNet, loaded


def test_the_slicer_part_imports_and_drives_the_client(slicer_module, lib, server, expected):
    module, loaded = slicer_module
    logic = module.STUNetLogic()
    volume = a_node()
    node = logic.segment(volume, lib.client.Server(server.url), lib.run.Order("hippocampus"))
    assert node.name == "Knee segmentation" and node.reference is volume
    assert np.array_equal(loaded[0], expected)
    assert not logic.is_running


def test_the_slicer_part_raises_the_servers_sentence(slicer_module, lib, server):
    module, loaded = slicer_module
    with pytest.raises(RuntimeError, match="'tiny'"):
        module.STUNetLogic().segment(a_node(), lib.client.Server(server.url), lib.run.Order("tiny"))
    assert loaded == []


def test_the_panel_drives_the_logic(slicer_module, server, expected):
    module, loaded = slicer_module
    panel = module.STUNetWidget()
    panel.setup()
    assert panel.address.text == "http://127.0.0.1:8000" and not panel.start_button.enabled
    panel.address.text = "http://127.0.0.1:1"
    panel.on_connect()
    assert "cannot be reached" in panel.said.text and not panel.start_button.enabled
    panel.address.text = server.url
    panel.volume.currentNode.return_value = a_node()
    panel.on_connect()
    assert panel.said.text == "Connected to stunet 0.1.0." and panel.start_button.enabled
    panel.model.currentIndex = [model.name for model in panel.models].index("hippocampus")
    panel.on_model(panel.model.currentIndex)
    panel.structures.selected = ["Posterior"]
    panel.on_start()
    assert panel.cancel_button.enabled and not panel.start_button.enabled
    end = time.monotonic() + 120
    while panel.logic.is_running:
        assert time.monotonic() < end
        panel.on_look()
    assert panel.said.text.startswith("Done.") and panel.start_button.enabled
    assert np.array_equal(loaded[0] == 2, expected == 2) and not (loaded[0] == 1).any()
    panel.cleanup()
