"""`stunet serve`: which servers do not start, and what is said."""

import socket
import subprocess

import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from stunet.serve.client import Client
from tests.serve.conftest import RunningServer

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--host", "0.0.0.0"), "is reached from other machines, so users need tokens"),
        (("--tls-certificate", "cert.pem"), "belong together"),
        (("--tokens", "missing.txt"), "missing.txt: cannot be read"),
        (("--tls-certificate", "a.pem", "--tls-key", "b.pem"), "are not a certificate and its key"),
        (("--host", "192.0.2.1", "--tokens", "tokens.txt"), "Cannot listen on"),
        (("--port", "99999"), "Cannot listen on"),
    ],
)
def test_servers_that_do_not_start(stunet, capsys, tmp_path, monkeypatch, options, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens.txt").write_text(f"anna:{TOKEN}\n")
    assert stunet("serve", *options) == 2
    assert sentence in capsys.readouterr().err


def test_a_port_that_is_taken(stunet, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert stunet("serve", "--port", taken.getsockname()[1]) == 2
    assert "Choose another --port" in capsys.readouterr().err


def test_beyond_this_machine_with_tls_and_tokens(tmp_path):
    request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    made = [*request, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    try:
        subprocess.run(
            ["openssl", *made, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    tls = ("--tls-certificate", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    server = RunningServer(tmp_path / "data", "--host", "0.0.0.0", *tls, STUNET_TOKENS=f"anna:{TOKEN}")
    try:
        assert "without TLS" not in server.said
        url = server.url.replace("0.0.0.0", "localhost")
        with Client(url, TOKEN, tmp_path / "cert.pem") as client:
            assert client.jobs() == []
        with pytest.raises(ValueError, match="A token is needed"), Client(url, None, tmp_path / "cert.pem") as client:
            client.jobs()
        with pytest.raises(ValueError, match="cannot be reached"):
            Client(url, TOKEN)
    finally:
        server.kill()


def test_without_tls_the_server_warns(tmp_path):
    server = RunningServer(tmp_path / "data", "--host", "0.0.0.0", STUNET_TOKENS=f"anna:{TOKEN}")
    server.kill()
    assert "scans and tokens can be read on the network" in server.said


def test_addresses_of_dicomweb_servers_are_checked_at_the_start(stunet, capsys, tmp_path):
    assert stunet("serve", "--data", tmp_path, "--allow-dicomweb", "ftp://archive") == 2
    assert "is not the address of a DICOMweb server" in capsys.readouterr().err
