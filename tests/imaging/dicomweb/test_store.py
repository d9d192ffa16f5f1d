import json

import pydicom
import pytest

from stunet.errors import OutputError
from stunet.imaging.formats.dicomweb.store import Stored, store
from tests.imaging.dicomweb.fake_server import Answer


@pytest.fixture
def result(tmp_path, series):
    path = tmp_path / "result.dcm"
    path.write_bytes(series["1.2.3.4.1"])
    return path


def test_the_server_gets_the_file(server, result):
    assert store([result], server.address + "/rs") == [Stored("1.2.3.6", "1.2.3.5", "1.2.3.4.1")]
    ((method, path, headers),) = server.asked
    assert (method, path) == ("POST", "/rs/studies") and 'type="application/dicom"' in headers["Content-Type"]
    assert pydicom.dcmread(result).PixelData in server.received[0]


REFUSED = {"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0122]}}]}}
"""FailedSOPSequence with its FailureReason, SOP class not supported."""


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            Answer(409, body=json.dumps(REFUSED).encode()),
            r"the server answers 409 \(Conflict\). Does it take this kind",
        ),
        (Answer(202, body=json.dumps(REFUSED).encode()), r"refuses it \(DICOM failure reason 0122H\). Does it take"),
        (Answer(401), r"the server answers 401 \(Unauthorized\). Set STUNET_DICOMWEB_TOKEN"),
        (Answer(503), r"the server answers 503 \(Service Unavailable\). Ask who runs it"),
        (Answer(200, body=b"thanks"), "the server's answer is not DICOMweb"),
    ],
)
def test_a_refusal(server, result, answer, sentence):
    server.answer = lambda method, path: answer
    with pytest.raises(OutputError, match=f"cannot store the result: .*{sentence}"):
        store([result], server.address)
    assert len(server.asked) == 1  # a result is not sent twice
