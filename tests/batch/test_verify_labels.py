"""What can be known of a label map, from its record and by segmenting again."""

import gzip
import json
from threading import Event

import nibabel
import numpy as np
import pytest

from stunet.batch.label_record import record_of
from stunet.batch.start import start_batch
from stunet.batch.verify_labels import Again, problems, verify_labels
from stunet.batch.worker import work
from stunet.cli.main import run
from stunet.errors import FileError
from stunet.weights.model_file import save_model
from tests.batch.batches import settings, write_scans
from tests.inference.samples import card, plan, tiny_network


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    network = tiny_network(num_classes=3)
    save_model(path, network.state_dict(), card(network, plan()))
    return path


@pytest.fixture
def labels(tmp_path, model):
    """What predict wrote."""
    write_scans(tmp_path / "scans", ["a", "b"])
    options = ("--backend", "torch", "--precision", "float32", "-q")
    arguments = ("predict", "-i", tmp_path / "scans" / "a.nii.gz", "-o", tmp_path / "a.nii.gz", "-m", model, *options)
    assert run([str(argument) for argument in arguments]) == 0
    return tmp_path / "a.nii.gz"


def answers(findings):
    return {finding.question: finding.answer for finding in findings}


def wrong(findings):
    return [finding.question for finding in problems(findings)]


def test_all_is_well(labels, model):
    findings = verify_labels(labels, Again())
    assert not problems(findings)
    found = answers(findings)
    assert found["hash"] == "the recorded one" and found["segmented again"] == "gives the same labels"
    assert str(model) in found["model"] and "torch in float32" in found["made with"]


def test_a_changed_voxel(labels):
    image = nibabel.load(labels)
    values = np.array(image.dataobj)
    values[3, 3, 3] = 2 - values[3, 3, 3]
    values[4, 4, 4] = 77
    nibabel.save(nibabel.Nifti1Image(values, image.affine, image.header), labels)
    findings = verify_labels(labels, Again())
    assert wrong(findings) == ["hash", "labels", "segmented again"]
    assert answers(findings)["labels"] == "the model has no label 77"
    assert "voxels get another label" in answers(findings)["segmented again"]


def test_a_file_that_is_cut_off(labels):
    labels.write_bytes(labels.read_bytes()[:-30])
    findings = verify_labels(labels, Again())
    assert wrong(findings) == ["complete and readable", "hash"]
    assert "segmented again" not in answers(findings)


def test_compressed_again_the_labels_are_the_same(labels):
    labels.write_bytes(gzip.compress(gzip.decompress(labels.read_bytes()), 9))
    assert wrong(verify_labels(labels, Again())) == ["hash"]


def test_another_scan_and_another_model(labels, tmp_path, model):
    other = verify_labels(labels, Again(scan=(tmp_path / "scans" / "b.nii.gz",)))
    assert wrong(other) == ["segmented again"]
    network = tiny_network(num_classes=4)
    save_model(tmp_path / "other.safetensors", network.state_dict(), card(network, plan()))
    other = verify_labels(labels, Again(model=str(tmp_path / "other.safetensors")))
    assert "is another model than the recorded one" in answers(other)["segmented again"]


def test_without_a_record_or_scan(labels, tmp_path, model):
    (tmp_path / "scans" / "a.nii.gz").rename(tmp_path / "moved.nii.gz")
    findings = verify_labels(labels, Again())
    assert not problems(findings) and answers(findings)["segmented again"].endswith("is not there; give -i")
    (tmp_path / "a.report.json").unlink()
    findings = verify_labels(labels, Again())
    assert answers(findings)["segmented again"] == "not tried: give the scan (-i), model (-m)"
    again = Again(scan=(tmp_path / "moved.nii.gz",), model=str(model))
    findings = verify_labels(labels, again)  # another precision than that of the labels
    answer = answers(findings)["segmented again"]
    assert not problems(findings) and (
        answer == "gives the same labels" or answer.endswith("with the default settings")
    )
    with pytest.raises(FileError, match="There is no file"):
        verify_labels(tmp_path / "nothing.nii.gz")


def test_labels_of_a_batch(tmp_path, model):
    start_batch([str(write_scans(tmp_path / "scans", ["a"]))], tmp_path / "out", settings(model))
    from stunet.batch.settings import BatchFolder

    work(BatchFolder(tmp_path / "out"), Event())
    labels = tmp_path / "out" / "a.nii.gz"
    assert record_of(labels)["scan_paths"] == [str(tmp_path / "scans" / "a.nii.gz")]
    found = answers(findings := verify_labels(labels, Again()))
    assert not problems(findings)
    assert found["hash"] == "the recorded one" and found["segmented again"] == "gives the same labels"


def test_the_command(labels, capsys):
    assert run(["verify", str(labels), "--record-only", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["findings"]
    assert [one["question"] for one in found] == ["complete and readable", "model", "made with", "settings", "hash"]
    labels.write_bytes(labels.read_bytes()[:-30])
    assert run(["verify", str(labels), "--record-only"]) == 2
    assert "wrong" in capsys.readouterr().out
