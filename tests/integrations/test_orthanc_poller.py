"""The poller between a real Orthanc and a real server: each study once, whatever ends it or fails in between."""

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import nibabel
import numpy as np
import pydicom
import pytest

pytest.importorskip("httpx", reason="the extra serve is not installed")
pytest.importorskip("highdicom", reason="the extra dicom is not installed")

from stunet.imaging.formats.registry import read_volume
from stunet.inference.predictor import Predictor
from stunet.serve.client import Client
from stunet.serve.connection import ServerError
from tests.conftest import REPOSITORY
from tests.imaging.dicomweb.orthanc import PASSWORD, USER, needs_orthanc, running_orthanc
from tests.phantoms import write_dicom_series
from tests.serve.conftest import wait_until

FOLDER = REPOSITORY / "integrations" / "orthanc"
PATIENT = "Zweifelhaft^Qorina"


@pytest.fixture
def parts(monkeypatch):
    """The modules of the poller, imported as the script does."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import orthanc_rest
    import poller
    import progress_file

    yield SimpleNamespace(rest=orthanc_rest, poller=poller, progress=progress_file)
    for name in ("orthanc_rest", "poller", "progress_file"):
        del sys.modules[name]


class FakeOrthanc:
    """Orthanc as far as the poller knows it, with studies that a test makes stable."""

    def __init__(self):
        self.events, self.series, self.stored, self.is_down = [], {}, [], False

    def arrive(self, study, **series):
        self.series.setdefault(study, {}).update(series)
        self.events.append(study)

    def last_change(self):
        return len(self.events)

    def changes(self, since):
        found = self.events[since : since + 2]
        return SimpleNamespace(stable_studies=found, last=since + len(found), is_all=since + 2 >= len(self.events))

    def series_of(self, study):
        return self.series.get(study, {})

    def save_archive(self, study, path):
        path.write_bytes(b"a zip")

    def store(self, path):
        if self.is_down:
            raise self.error("Orthanc refuses POST /instances (HTTP 503).")
        study = path.stem
        self.stored.append((study, path.read_bytes()))
        self.arrive(study, result="SEG")  # so the study becomes stable again


class FakeClient:
    """A server that answers what a test wants."""

    def __init__(self, chosen=1, error=None):
        self.chosen, self.error, self.jobs = chosen, error, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def upload(self, path):
        assert path.read_bytes() == b"a zip"
        return SimpleNamespace(scan="scan", chosen=self.chosen)

    def submit(self, scan, model, *, series, classes):
        self.jobs += 1
        if self.error is not None:
            raise self.error
        return SimpleNamespace(job="job")

    def wait(self, job):
        pass

    def save(self, job, path, *, format):
        path.write_bytes(f"{format} {self.jobs}".encode())

    def delete(self, job):
        pass

    def delete_scan(self, scan):
        pass


@pytest.fixture
def rig(parts, tmp_path):
    """A poller between fakes; `restart` makes a new one that goes on where the last one was."""
    orthanc, client, clock = FakeOrthanc(), FakeClient(), SimpleNamespace(now=1000.0)
    orthanc.error = parts.rest.OrthancError
    order = parts.poller.Order("base", format="dicom-seg-binary", attempts=3, first_wait=10.0)

    def restart():
        one = parts.poller.Poller(orthanc, lambda: client, order, tmp_path, lambda: clock.now)
        one.begin(all_studies=False)
        return one

    return SimpleNamespace(orthanc=orthanc, client=client, clock=clock, restart=restart, folder=tmp_path)


def round_of(poller):
    poller.look()
    poller.work()


def test_only_what_arrives_from_now_on_and_each_study_once(rig):
    rig.orthanc.arrive("old", a="CT")
    poller = rig.restart()
    for study in ("one", "two", "three"):
        rig.orthanc.arrive(study, a="CT", scout="SR")
    rig.orthanc.arrive("picture", a="CR")
    for _ in range(3):
        round_of(poller)
        poller = rig.restart()
    assert [study for study, _ in rig.orthanc.stored] == ["one", "two", "three"]
    assert rig.orthanc.stored[0][1] == b"dicom-seg-binary 1"
    assert poller.progress.waiting == {} and poller.progress.last_change == len(rig.orthanc.events)
    assert [path.name for path in rig.folder.iterdir()] == ["progress.json"]


def test_another_series_of_images_is_a_reason_to_segment_again(rig):
    poller = rig.restart()
    rig.orthanc.arrive("one", a="CT")
    round_of(poller)
    rig.orthanc.arrive("one", b="CT")
    round_of(poller)
    round_of(poller)
    assert len(rig.orthanc.stored) == 2


def test_a_failure_is_tried_again_later_and_later_and_given_up_at_last(rig, caplog):
    caplog.set_level(logging.INFO)
    poller = rig.restart()
    rig.client.error = ServerError(f"There is no memory for {PATIENT}.", 503)
    rig.orthanc.arrive("one", a="CT")
    attempts = []
    for seconds in (0, 9, 1, 19, 1, 100):
        rig.clock.now += seconds
        round_of(poller)
        poller = rig.restart()
        attempts.append(rig.client.jobs)
    assert attempts == [1, 1, 2, 2, 3, 3]
    assert poller.progress.waiting == {} and "given up after 3 attempts" in caplog.text
    assert "HTTP 503" in caplog.text and "Qorina" not in caplog.text


def test_one_that_fails_does_not_hold_up_the_next(rig):
    poller = rig.restart()
    rig.client.error = ServerError("busy", 429)
    rig.orthanc.arrive("one", a="CT")
    round_of(poller)
    rig.client.error = None
    rig.orthanc.arrive("two", a="CT")
    round_of(poller)
    assert [study for study, _ in rig.orthanc.stored] == ["two"]
    rig.clock.now += 10
    round_of(poller)
    assert [study for study, _ in rig.orthanc.stored] == ["two", "one"]


def test_a_result_that_could_not_be_stored_is_kept_and_not_made_twice(rig):
    poller = rig.restart()
    rig.orthanc.is_down = True
    rig.orthanc.arrive("one", a="CT")
    round_of(poller)
    assert rig.client.jobs == 1 and (rig.folder / "one.dcm").exists()
    rig.orthanc.is_down = False
    rig.clock.now += 10
    round_of(rig.restart())
    assert rig.client.jobs == 1 and [study for study, _ in rig.orthanc.stored] == ["one"]
    assert not (rig.folder / "one.dcm").exists()


def test_an_orthanc_that_was_emptied_counts_from_one_again(rig):
    poller = rig.restart()
    for study in ("one", "two"):
        rig.orthanc.arrive(study, a="CT")
    round_of(poller)
    round_of(poller)
    rig.orthanc.events, rig.orthanc.series, rig.orthanc.stored = [], {}, []
    rig.orthanc.arrive("three", a="CT")
    round_of(rig.restart())
    assert [study for study, _ in rig.orthanc.stored] == ["three"]


def test_a_study_without_a_plain_choice_is_left(rig, caplog):
    poller = rig.restart()
    rig.client.chosen = None
    rig.orthanc.arrive("one", a="CT")
    round_of(poller)
    round_of(poller)
    assert rig.client.jobs == 0 and poller.progress.waiting == {}
    assert caplog.text.count("It is left.") == 1


def test_an_orthanc_that_is_not_there_is_a_sentence(parts):
    with pytest.raises(parts.rest.OrthancError, match="Orthanc cannot be asked for /changes"):
        parts.rest.Orthanc("http://127.0.0.1:1").last_change()


@pytest.fixture
def series(hippocampus, tmp_path):
    """MR of a hippocampus as DICOM."""
    array = np.asarray(nibabel.load(hippocampus).dataobj).T.astype(np.int16)
    details = {"Modality": "MR", "PatientName": PATIENT, "FrameOfReferenceUID": "1.2.3.7"}
    return write_dicom_series(tmp_path / "series", array, **details)


@needs_orthanc
def test_a_study_arrives_and_a_segmentation_comes_back(parts, server, series, tmp_path, caplog):
    """Through Orthanc's REST interface, with a server in a process of its own."""
    caplog.set_level(logging.INFO)
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc") as address:
        url = address.replace("dicomweb://", "http://").removesuffix("/dicom-web")
        orthanc = parts.rest.Orthanc(url, USER, PASSWORD)
        order = parts.poller.Order("hippocampus", modality="MR", format="dicom-seg-binary")
        poller = parts.poller.Poller(orthanc, lambda: Client(server.url), order, tmp_path)
        poller.begin(all_studies=False)
        for file in series:
            orthanc.store(file)
        (study,) = orthanc._json("/studies")
        poller.progress.waiting[study] = parts.progress.Waiting()  # Orthanc itself calls it stable a minute later
        round_of(poller)
        found = orthanc.series_of(study)
        assert Counter(found.values()) == {"MR": 1, "SEG": 1} and "segmented" in caplog.text, caplog.text
        (result,) = (one for one, modality in found.items() if modality == "SEG")
        with orthanc._asked("GET", f"/series/{result}/instances") as answer:
            answer.read()
            (instance,) = answer.json()
        with orthanc._asked("GET", f"/instances/{instance['ID']}/file") as answer:
            (tmp_path / "result.dcm").write_bytes(answer.read())
        poller.progress.waiting[study] = parts.progress.Waiting()  # our result made it stable again
        round_of(poller)
        assert Counter(orthanc.series_of(study).values()) == {"MR": 1, "SEG": 1}
    segmentation = pydicom.dcmread(tmp_path / "result.dcm")
    expected = Predictor("hippocampus").predict(read_volume(tmp_path / "series"))
    assert [one.SegmentLabel for one in segmentation.SegmentSequence] == ["Anterior", "Posterior"]
    assert str(segmentation.PatientName) == PATIENT
    voxels = Counter()
    frames = segmentation.PerFrameFunctionalGroupsSequence
    for frame, group in zip(segmentation.pixel_array, frames, strict=True):
        voxels[group.SegmentIdentificationSequence[0].ReferencedSegmentNumber] += int((frame != 0).sum())
    assert voxels == {1: int((expected.labels == 1).sum()), 2: int((expected.labels == 2).sum())}
    said = caplog.text + json.dumps(json.loads((tmp_path / "progress.json").read_text()))
    assert "Qorina" not in said and "1.2.3" not in said


@needs_orthanc
@pytest.mark.slow
def test_the_script_waits_until_orthanc_calls_the_study_stable(parts, server, series, tmp_path):
    (tmp_path / "orthanc").mkdir()
    with running_orthanc(tmp_path / "orthanc") as address:
        url = address.replace("dicomweb://", "http://").removesuffix("/dicom-web")
        orthanc = parts.rest.Orthanc(url, USER, PASSWORD)
        for file in series:
            orthanc.store(file)
        (study,) = orthanc._json("/studies")
        options = ["--orthanc", url, "--server", server.url, "--model", "hippocampus", "--modality", "MR"]
        options += ["--folder", str(tmp_path / "poller"), "--all-studies", "--seconds", "2"]
        variables = {**os.environ, "ORTHANC_USER": USER, "ORTHANC_PASSWORD": PASSWORD}
        variables["PYTHONPATH"] = str(REPOSITORY / "src")
        command = [sys.executable, str(FOLDER / "segment_arrivals.py"), *options]
        with (tmp_path / "log").open("wb") as log, subprocess.Popen(command, stderr=log, env=variables) as process:
            try:
                wait_until(lambda: "SEG" in orthanc.series_of(study).values(), seconds=240)
                wait_until(lambda: "segmented" in (tmp_path / "log").read_text())
            finally:
                process.kill()
    said = (tmp_path / "log").read_text()
    assert study in said and "Qorina" not in said and "1.2.3" not in said
