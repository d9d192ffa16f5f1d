import hashlib
import signal
import subprocess
import sys
import time

import nibabel
import numpy as np
import pytest

from stunet.batch import predict_cases as predict_cases_module
from stunet.batch.find_scans import Case, find_cases
from stunet.batch.outputs import Outputs
from stunet.batch.predict_cases import predict_cases
from stunet.inference.predictor import Predictor
from tests.inference.samples import EXACT, tiny_model
from tests.phantoms import smooth_scan


def write_scan(path, seed=0):
    nibabel.save(nibabel.Nifti1Image(smooth_scan((20, 18, 12), seed), np.eye(4)), path)
    return path


def segment(predictor, cases, folder, **options):
    destinations = {case: Outputs().main_path(folder, case.name) for case in cases}
    return predict_cases(lambda: predictor, destinations, **options)


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model(), EXACT)


def test_a_corrupt_scan_costs_only_itself(tmp_path, predictor):
    for seed, name in enumerate("ac"):
        write_scan(tmp_path / f"{name}.nii.gz", seed)
    (tmp_path / "b.nii.gz").write_bytes(b"no scan")
    first, second, third = segment(predictor, find_cases(tmp_path, 1), tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.nii.gz", "c.nii.gz"]
    assert second.output is None and "b.nii.gz" in second.error and not second.is_internal_error
    for outcome in (first, third):
        labels = np.asarray(nibabel.load(outcome.output).dataobj)
        assert np.array_equal(labels.T, predictor.predict(outcome.case.files[0]).labels)


def test_a_fault_of_ours_costs_only_its_case(tmp_path, predictor, monkeypatch):
    files = [write_scan(tmp_path / f"{name}.nii.gz") for name in "ab"]
    predict = predictor.predict

    def stumble(scan, *others):
        if scan.source == str(files[0]):
            raise ZeroDivisionError("a fault")
        return predict(scan, *others)

    monkeypatch.setattr(predictor, "predict", stumble)
    first, second = segment(predictor, find_cases(tmp_path, 1), tmp_path / "out")
    assert first.is_internal_error and "ZeroDivisionError: a fault" in first.error
    assert second.error is None


def test_what_is_there_is_left_alone(tmp_path, predictor, monkeypatch):
    for seed, name in enumerate("abc"):
        write_scan(tmp_path / f"{name}.nii.gz", seed)
    list(segment(predictor, find_cases(tmp_path, 1), tmp_path / "out"))
    (tmp_path / "out" / "b.nii.gz").unlink()
    (tmp_path / "out" / "c.nii.gz").write_bytes(b"as it was")
    first, second, third = segment(predictor, find_cases(tmp_path, 1), tmp_path / "out", resume=True)
    assert first.segmentation is None and third.segmentation is None and second.segmentation is not None
    assert first.output == tmp_path / "out" / "a.nii.gz"
    assert (tmp_path / "out" / "c.nii.gz").read_bytes() == b"as it was"
    list(segment(predictor, find_cases(tmp_path, 1), tmp_path / "out"))
    assert (tmp_path / "out" / "c.nii.gz").read_bytes() != b"as it was"


def test_one_scan_is_read_ahead(tmp_path, predictor, monkeypatch):
    for seed, name in enumerate("abcd"):
        write_scan(tmp_path / f"{name}.nii.gz", seed)
    read = []
    plain_read, plain_predict = predict_cases_module.as_volume, predictor.predict
    monkeypatch.setattr(predict_cases_module, "as_volume", lambda path: read.append(path.name[0]) or plain_read(path))

    def predict(scan, *others):
        deadline = time.monotonic() + 60
        wanted = min(len(seen) + 2, 4)
        while len(read) < wanted and time.monotonic() < deadline:
            time.sleep(0.01)
        seen.append("".join(read))
        return plain_predict(scan, *others)

    seen: list[str] = []
    monkeypatch.setattr(predictor, "predict", predict)
    outcomes = list(segment(predictor, find_cases(tmp_path, 1), tmp_path / "out"))
    assert seen == ["ab", "abc", "abcd", "abcd"]
    assert [outcome.case.name for outcome in outcomes] == list("abcd")


KILLED = """
import sys
from pathlib import Path
from stunet.batch.find_scans import find_cases
from stunet.inference.predictor import Predictor
from tests.batch.test_predict_cases import segment
from tests.inference.samples import EXACT, tiny_model
for outcome in segment(Predictor(tiny_model(), EXACT), find_cases(Path(sys.argv[1]), 1), Path(sys.argv[2])):
    print(outcome.case.name, flush=True)
"""


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.name[0] != "."
    }


def test_killed_and_resumed_equals_undisturbed(tmp_path, predictor):
    for seed in range(6):
        write_scan(tmp_path / f"{seed}.nii.gz", seed)
    (tmp_path / "3.nii.gz").write_bytes(b"no scan")
    cases = find_cases(tmp_path, 1)
    list(segment(predictor, cases, tmp_path / "undisturbed"))
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(tmp_path / "killed")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None and child.stdout.readline() == "0\n"
    child.send_signal(signal.SIGKILL)
    child.wait()
    there = digests(tmp_path / "killed")
    assert 1 <= len(there) < 6
    outcomes = list(segment(predictor, cases, tmp_path / "killed", resume=True))
    assert [outcome.case.name for outcome in outcomes if outcome.error] == ["3"]
    assert digests(tmp_path / "killed") == digests(tmp_path / "undisturbed")
    assert len(digests(tmp_path / "killed")) == 5


def test_a_wrong_number_of_channels(tmp_path, predictor):
    files = tuple(write_scan(tmp_path / f"a_000{channel}.nii.gz") for channel in (0, 1))
    (outcome,) = segment(predictor, [Case("a", files)], tmp_path / "out")
    assert "2 channel(s)" in outcome.error and not outcome.is_internal_error


def test_an_interruption_ends_the_batch(tmp_path, predictor, monkeypatch):
    write_scan(tmp_path / "a.nii.gz")
    monkeypatch.setattr(predictor, "predict", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        list(segment(predictor, find_cases(tmp_path, 1), tmp_path / "out"))
