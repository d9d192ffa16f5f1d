"""3D Slicer module: a volume goes to a server of stunet, and comes back as a segmentation.

What is here needs Slicer; all else is in `STUNetLib`, which needs nothing but Python.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import ExitStack
from pathlib import Path

import ctk
import qt
import slicer
import vtk
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from STUNetLib.client import Model, Server, ServerError
from STUNetLib.run import DONE, ENDED, Order, Run

MILLISECONDS_BETWEEN_LOOKS = 100

SECONDS_TO_END = 2.0
"""A run that is no longer wanted gets so long to tell the server."""

ADDRESS_SETTING = "STUNet/server"
"""Slicer remembers the address; a token it does not."""

USUAL_ADDRESS = "http://127.0.0.1:8000"


class STUNet(ScriptedLoadableModule):
    """What Slicer shows of the module."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = "STU-Net"
        self.parent.categories = ["Segmentation"]
        self.parent.dependencies = ["Segmentations"]
        self.parent.contributors = ["The stunet developers"]
        self.parent.helpText = (
            "Segments CT, MR and PET on a server of stunet (<code>stunet serve</code>). The server may run on this "
            "computer. Not a medical device."
        )
        self.parent.acknowledgementText = "STU-Net: Huang et al., arXiv:2304.06716."


class STUNetWidget(ScriptedLoadableModuleWidget):
    """The panel: server, volume, model, structures, progress."""

    def setup(self):
        """Build the panel."""
        ScriptedLoadableModuleWidget.setup(self)
        self.logic = STUNetLogic()
        self.models: list[Model] = []
        self._add_server()
        self._add_choice()
        self._add_progress()
        self.layout.addStretch(1)
        self.timer = qt.QTimer()
        self.timer.setInterval(MILLISECONDS_BETWEEN_LOOKS)
        self.timer.connect("timeout()", self.on_look)
        self._enable()

    def cleanup(self):
        """Slicer ends, or loads the module again."""
        self.timer.stop()
        self.logic.forget()

    def _add_server(self):
        form = self._section("Server")
        self.address = qt.QLineEdit(qt.QSettings().value(ADDRESS_SETTING, USUAL_ADDRESS))
        self.address.setToolTip("Address of a server: `stunet serve` prints it.")
        form.addRow("Address:", self.address)
        self.token = qt.QLineEdit(os.environ.get("STUNET_TOKEN", ""))
        self.token.setEchoMode(qt.QLineEdit.Password)
        self.token.setToolTip("Only for servers that need one. It is not stored.")
        form.addRow("Token:", self.token)
        self.connect_button = qt.QPushButton("Connect")
        self.connect_button.connect("clicked(bool)", self.on_connect)
        form.addRow(self.connect_button)

    def _add_choice(self):
        form = self._section("Segment")
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.addEnabled = self.volume.removeEnabled = self.volume.renameEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        self.volume.connect("currentNodeChanged(vtkMRMLNode*)", self._enable)
        form.addRow("Volume:", self.volume)
        self.model = qt.QComboBox()
        self.model.connect("currentIndexChanged(int)", self.on_model)
        form.addRow("Model:", self.model)
        self.filter = qt.QLineEdit()
        self.filter.setPlaceholderText("Search, such as kidney or organs")
        self.filter.connect("textChanged(QString)", self.on_filter)
        form.addRow("Structures:", self.filter)
        self.structures = qt.QListWidget()
        self.structures.setSelectionMode(qt.QAbstractItemView.MultiSelection)
        self.structures.setToolTip("Select the structures to segment. All, if none is selected.")
        form.addRow(self.structures)

    def _add_progress(self):
        self.start_button = qt.QPushButton("Segment")
        self.start_button.connect("clicked(bool)", self.on_start)
        self.cancel_button = qt.QPushButton("Cancel")
        self.cancel_button.connect("clicked(bool)", self.on_cancel)
        self.bar = qt.QProgressBar()
        self.said = qt.QLabel("Connect to a server first.")
        self.said.setWordWrap(True)
        for widget in (self.start_button, self.cancel_button, self.bar, self.said):
            self.layout.addWidget(widget)

    def _section(self, title):
        """A part of the panel that can be folded, and its form."""
        button = ctk.ctkCollapsibleButton()
        button.text = title
        self.layout.addWidget(button)
        return qt.QFormLayout(button)

    def _server(self):
        return Server(self.address.text, self.token.text)

    def _enable(self, *_):
        """Buttons that can be pressed now."""
        running = self.logic.is_running
        self.start_button.enabled = bool(self.models) and self.volume.currentNode() is not None and not running
        self.cancel_button.enabled = running
        self.connect_button.enabled = not running

    def on_connect(self, *_):
        """Ask the server for its models."""
        self.models = []
        try:
            server = self._server()
            version = server.require_same_version()
            self.models = [model for model in server.models() if model.available]
        except ServerError as error:
            self.said.text = str(error)
        else:
            qt.QSettings().setValue(ADDRESS_SETTING, self.address.text)
            self.said.text = f"Connected to stunet {version}." if self.models else "This server has no model."
        self.model.clear()
        for model in self.models:
            self.model.addItem(f"{model.name}: {model.summary}")
        self._enable()

    def on_model(self, index):
        """List what the model finds."""
        self.structures.clear()
        if 0 <= index < len(self.models):
            for row, structure in enumerate(self.models[index].structures):
                self.structures.addItem(structure.name)
                self.structures.item(row).setToolTip(structure.group)
        self.on_filter(self.filter.text)

    def on_filter(self, text):
        """Hide structures without these letters in their name or group."""
        wanted = text.strip().lower()
        for row in range(self.structures.count):
            item = self.structures.item(row)
            item.setHidden(wanted not in f"{item.text()} {item.toolTip()}".lower())

    def on_start(self, *_):
        """Send the volume."""
        names = tuple(item.text() for item in self.structures.selectedItems())
        order = Order(self.models[self.model.currentIndex].name, names)
        try:
            self.logic.start(self.volume.currentNode(), self._server(), order)
        except (ServerError, OSError, RuntimeError) as error:
            self.said.text = str(error)
            return
        self.timer.start()
        self._enable()

    def on_cancel(self, *_):
        """End the run."""
        self.logic.cancel()

    def on_look(self):
        """Show how far it is, and the result."""
        progress = self.logic.look()
        self.bar.setValue(round(100 * progress.fraction))
        self.said.text = progress.sentence
        if progress.state not in ENDED:
            return
        self.timer.stop()
        if progress.state == DONE:
            try:
                self.logic.finish()
                self.said.text = " ".join(("Done.", *progress.warnings))
            except RuntimeError as error:
                self.said.text = f"The result cannot be loaded ({error})."
        self.logic.forget()
        self._enable()


class STUNetLogic(ScriptedLoadableModuleLogic):
    """One run at a time, from a volume node to a segmentation node; usable from scripts, too.

    logic = STUNetLogic()
    segmentation = logic.segment(volume, Server("http://127.0.0.1:8000"), Order("base"))
    """

    def __init__(self):
        ScriptedLoadableModuleLogic.__init__(self)
        self._run = None
        self._folder = None
        self._volume = None

    @property
    def is_running(self):
        """Whether a run was started and not yet finished or forgotten."""
        return self._run is not None

    def start(self, volume, server, order):
        """Write a volume node to a temporary file, and begin to segment it.

        Raises:
            RuntimeError: a run is not finished yet, or the volume cannot be written.
        """
        if self.is_running:
            raise RuntimeError("A segmentation is running; cancel it first.")
        folder = Path(tempfile.mkdtemp(prefix="STUNet"))
        with ExitStack() as cleanup:
            cleanup.callback(shutil.rmtree, folder, ignore_errors=True)
            scan = folder / "scan.nii"
            if not slicer.util.exportNode(volume, str(scan)):
                raise RuntimeError("The volume cannot be written to a temporary file.")
            self._run = Run(server, scan, order, folder / "labels.seg.nrrd")
            cleanup.pop_all()
        self._folder, self._volume = folder, volume
        self._run.start()

    def look(self):
        """How far the run is that was started."""
        return self._run.look()

    def cancel(self):
        """End the run soon."""
        if self._run is not None:
            self._run.cancel()

    def finish(self):
        """Load the result of a run that is done: names, colours and SNOMED CT codes come with it.

        Returns:
            A vtkMRMLSegmentationNode that lies on the volume.
        """
        try:
            node = slicer.util.loadSegmentation(str(self._folder / "labels.seg.nrrd"))
            node.SetName(f"{self._volume.GetName()} segmentation")
            node.SetReferenceImageGeometryParameterFromVolumeNode(self._volume)
            node.SetAndObserveTransformNodeID(self._volume.GetTransformNodeID())
            storage = node.GetStorageNode()
            if storage is not None:
                node.SetAndObserveStorageNodeID(None)  # its file goes now; users save it where they want
                slicer.mrmlScene.RemoveNode(storage)
        finally:
            self.forget()
        return node

    def forget(self):
        """End the run if there is one, and remove its files."""
        if self._run is not None:
            self._run.cancel()
            self._run.look(SECONDS_TO_END)
            shutil.rmtree(self._folder, ignore_errors=True)
        self._run = self._folder = self._volume = None

    def segment(self, volume, server, order):
        """Start, wait and finish; Slicer stays alive meanwhile.

        Raises:
            RuntimeError: it failed; the message is the server's sentence.
        """
        self.start(volume, server, order)
        progress = self.look()
        while progress.state not in ENDED:
            slicer.app.processEvents()
            progress = self.look()
        if progress.state != DONE:
            self.forget()
            raise RuntimeError(progress.sentence)
        return self.finish()


class STUNetTest(ScriptedLoadableModuleTest):
    """Slicer's own test: an invented volume goes to the server that STUNET_SERVER names, and comes back."""

    def setUp(self):
        """An empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """All tests."""
        self.setUp()
        self.test_segmentation_lies_on_the_volume()

    def test_segmentation_lies_on_the_volume(self):
        """The geometry of the result is the volume's."""
        address = os.environ.get("STUNET_SERVER")
        if not address:
            self.delayDisplay("Set STUNET_SERVER to the address of a server to run this test.")
            return
        image = vtk.vtkImageData()
        image.SetDimensions(40, 48, 36)
        image.AllocateScalars(vtk.VTK_SHORT, 1)
        image.GetPointData().GetScalars().Fill(100)
        volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "Invented")
        volume.SetAndObserveImageData(image)
        server = Server(address, os.environ.get("STUNET_TOKEN", ""))
        model = next(model for model in server.models() if model.available)
        node = STUNetLogic().segment(volume, server, Order(model.name))
        self.assertEqual(node.GetName(), "Invented segmentation")
        self.assertEqual(slicer.util.getNodesByClass("vtkMRMLSegmentationNode"), [node])
        self.delayDisplay("Test passed")
