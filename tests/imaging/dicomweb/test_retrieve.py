import gzip
import socket
import threading

import numpy as np
import pydicom
import pytest

from stunet.errors import FileError, UnsafeFileError
from stunet.imaging.formats.dicomweb import retrieve as retrieving
from stunet.imaging.formats.dicomweb import server as connecting
from stunet.imaging.formats.dicomweb import study
from stunet.imaging.formats.dicomweb.retrieve import retrieve
from stunet.imaging.formats.registry import read_volume
from tests.imaging.dicomweb.fake_server import PATH, Answer, as_json, multipart, serving


def test_the_files_are_those_of_the_server(server, series, tmp_path):
    told = []
    paths = retrieve(server.address + PATH, tmp_path / "new", lambda *counts: told.append(counts))
    assert [path.stem for path in paths] == list(series)
    for path in paths:
        assert pydicom.dcmread(path) == pydicom.dcmread(tmp_path / "scan" / f"slice{int(path.stem[8:]) - 1:03d}.dcm")
    assert np.array_equal(read_volume(tmp_path / "new").array, read_volume(tmp_path / "scan").array)
    assert told == [(number, 8) for number in range(1, 9)]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_after_an_interruption_only_the_rest_is_asked_for(server, tmp_path, monkeypatch):
    monkeypatch.setattr(retrieving, "THREADS", 1)
    whole = multipart(server.instances["1.2.3.4.6"])
    cut = Answer(200, whole.content_type, whole.body[:900], len(whole.body))
    server.answer = lambda method, path: cut if path.endswith("1.2.3.4.6") else None
    with pytest.raises(FileError, match="the connection broke") as stopped:
        retrieve(server.address + PATH, tmp_path / "new")
    kept = {path.stem for path in (tmp_path / "new").iterdir()}
    assert f"Try again. {len(kept)} of 8 files are here" in str(stopped.value)
    assert 5 <= len(kept) < 8 and "1.2.3.4.6" not in kept
    server.answer, server.asked = (lambda method, path: None), []
    assert len(retrieve(server.address + PATH, tmp_path / "new")) == 8
    assert set(server.retrieved()) == set(server.instances) - kept
    assert read_volume(tmp_path / "new").shape[0] == 8


def test_ctrl_c_leaves_whole_files(server, tmp_path, monkeypatch):
    monkeypatch.setattr(retrieving, "THREADS", 1)
    go_on = threading.Event()
    server.answer = lambda method, path: go_on.wait(10) and None if path.endswith("1.2.3.4.5") else None

    def stop(done, total):
        if done == 3:
            threading.Timer(0.2, go_on.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        retrieve(server.address + PATH, tmp_path / "new", stop)
    kept = list((tmp_path / "new").iterdir())
    assert 4 <= len(kept) <= 5 and all(pydicom.dcmread(path).Rows for path in kept)


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (401, r"the server answers 401 \(Unauthorized\). Set STUNET_DICOMWEB_TOKEN"),
        (403, r"the server answers 403 \(Forbidden\). Set STUNET_DICOMWEB_TOKEN"),
        (404, r"the server answers 404 \(Not Found\). Check the UIDs, and the path"),
        (500, r"the server answers 500 \(Internal Server Error\). Ask who runs it"),
        (503, r"the server answers 503 \(Service Unavailable\). Ask who runs it"),
        (599, r"the server answers 599. Ask who runs it"),
    ],
)
def test_a_refusal(server, tmp_path, monkeypatch, status, sentence):
    monkeypatch.setattr(connecting, "FIRST_WAIT_MS", 1)
    server.answer = lambda method, path: Answer(status, "text/plain", b"Zweifelhaft^Qorina is secret")
    with pytest.raises(FileError, match=sentence) as refused:
        retrieve(server.address + PATH, tmp_path / "new")
    assert "Zweifelhaft" not in str(refused.value) and str(refused.value).startswith(server.address + PATH)
    assert len(server.asked) == (connecting.ATTEMPTS if status == 503 else 1)


def test_nobody_answers(tmp_path, monkeypatch):
    monkeypatch.setattr(connecting, "FIRST_WAIT_MS", 1)
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # and does not listen
        port = one.getsockname()[1]
        with pytest.raises(FileError, match=f"127.0.0.1:{port} cannot be reached. Is the host right"):
            retrieve(f"dicomweb://127.0.0.1:{port}{PATH}", tmp_path / "new")


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(200, "text/html", b"<html>Welcome</html>"), Answer(200, body=b'["what"]'), Answer(200, body=b"7")),
        multipart(b"no DICOM, but in the right wrapping"),
    ],
)
def test_another_kind_of_server(server, tmp_path, answer):
    server.answer = lambda method, path: (
        answer if ("/instances/" in path) == ("multipart" in answer.content_type) else None
    )
    with pytest.raises(FileError, match=r"the server's answer is not DICOMweb. Check the address"):
        retrieve(server.address + PATH, tmp_path / "new")
    assert not list((tmp_path / "new").glob("*"))


def test_another_instance_than_the_one_asked_for(server, series, tmp_path):
    server.answer = lambda method, path: multipart(series["1.2.3.4.1"]) if path.endswith("1.2.3.4.2") else None
    with pytest.raises(FileError, match="sent another instance than the one it was asked for"):
        retrieve(server.address + PATH, tmp_path / "new")
    assert not (tmp_path / "new/1.2.3.4.2.dcm").exists()


def test_a_series_that_is_not_there(server, tmp_path):
    server.instances = {}
    with pytest.raises(FileError, match=r"the server knows no instances of it. Check the UIDs"):
        retrieve(server.address + PATH, tmp_path / "new")


def test_names_that_would_lie_elsewhere_are_no_instances(server, tmp_path):
    server.instances = {"../../evil": b""}
    with pytest.raises(FileError, match="knows no instances"):
        retrieve(server.address + PATH, tmp_path / "new")
    assert server.retrieved() == []


def test_a_server_that_says_the_same_again_and_again(server, series, tmp_path):
    """It knows no paging."""
    everything = as_json([{"00080018": {"vr": "UI", "Value": [uid]}} for uid in series])
    server.answer = lambda method, path: everything if path.endswith("/instances") else None
    assert len(retrieve(server.address + PATH, tmp_path / "new")) == 8


def test_a_server_that_gives_a_few_at_a_time(server, tmp_path, monkeypatch):
    monkeypatch.setattr(study, "PAGE", 3)
    assert len(retrieve(server.address + PATH, tmp_path / "new")) == 8


@pytest.mark.parametrize(
    ("module", "bound", "sentence"),
    [
        (connecting, "MOST_BYTES", "sent more than 900 bytes at once"),
        (retrieving, "MAX_BYTES", "has more than 900 bytes, and no scan"),
        (study, "MAX_ANSWERS", "names more than 4 answers"),
    ],
)
def test_more_than_any_scan_has(server, tmp_path, monkeypatch, module, bound, sentence):
    monkeypatch.setattr(module, bound, 4 if bound == "MAX_ANSWERS" else 900)
    monkeypatch.setattr(study, "PAGE", 2)
    with pytest.raises(FileError, match=sentence):
        retrieve(server.address + PATH, tmp_path / "new")


def test_an_answer_that_unpacks_to_too_much(server, tmp_path, monkeypatch):
    monkeypatch.setattr(connecting, "MOST_BYTES", 100_000)
    bomb = Answer(200, body=gzip.compress(bytes(10_000_000)), headers={"Content-Encoding": "gzip"})
    assert len(bomb.body) < 100_000
    server.answer = lambda method, path: bomb
    with pytest.raises(UnsafeFileError, match="more than 100,000 bytes at once"):
        retrieve(server.address + PATH, tmp_path / "new")


def headers_of(server, name):
    return {headers.get(name) for _, _, headers in server.asked}


def test_who_asks_is_said_by_the_environment(server, tmp_path, monkeypatch):
    monkeypatch.setenv("STUNET_DICOMWEB_USER", "me")
    monkeypatch.setenv("STUNET_DICOMWEB_PASSWORD", "s3cret")
    retrieve(server.address + PATH, tmp_path / "one")
    assert headers_of(server, "Authorization") == {"Basic bWU6czNjcmV0"}
    server.asked.clear()
    monkeypatch.setenv("STUNET_DICOMWEB_TOKEN", "t0ken\n")
    retrieve(server.address + PATH, tmp_path / "two")
    assert headers_of(server, "Authorization") == {"Bearer t0ken"}


def test_a_redirect_elsewhere_does_not_get_the_token(server, series, tmp_path, monkeypatch):
    monkeypatch.setenv("STUNET_DICOMWEB_TOKEN", "t0ken")
    with serving(type(server)(series)) as other:

        def elsewhere(method, path):
            return Answer(307, headers={"Location": f"http://localhost:{other.port}{path}"})

        server.answer = lambda method, path: elsewhere(method, path) if "/instances/" in path else None
        retrieve(server.address + PATH, tmp_path / "new")
        assert headers_of(server, "Authorization") == {"Bearer t0ken"}
        assert len(other.asked) == 8 and headers_of(other, "Authorization") == {None}
