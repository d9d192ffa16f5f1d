"""Orthanc with its DICOMweb plugin (Debian: orthanc, orthanc-dicomweb) on a free port of this machine."""

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
PROGRAM = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")

USER, PASSWORD = "tester", "p4ss w\u00f6rd"

needs_orthanc = pytest.mark.skipif(
    PROGRAM is None or not PLUGIN.exists(), reason="Orthanc and its DICOMweb plugin are not installed"
)

SECONDS_TO_START = 30


@contextmanager
def running_orthanc(folder: Path, **changes: object) -> Iterator[str]:
    """Start it with nothing in it, and stop it at the end.

    Args:
        folder: for its storage and configuration.
        changes: settings of its configuration, such as StableAge.

    Yields:
        The address of its DICOMweb service, for which `USER` and `PASSWORD` are needed.
    """
    port = _free_port()
    configuration = {
        "Name": "stunet-test",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        **changes,
    }
    (folder / "orthanc.json").write_text(json.dumps(configuration))
    assert PROGRAM is not None
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([PROGRAM, str(folder / "orthanc.json")], stdout=log, stderr=log, cwd=folder)
    try:
        _wait_for(port, process, folder / "log")
        yield f"dicomweb://127.0.0.1:{port}/dicom-web"
    finally:
        process.terminate()
        process.wait(SECONDS_TO_START)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def _wait_for(port: int, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and process.poll() is None:
        try:
            answer = requests.get(f"http://127.0.0.1:{port}/system", auth=_credentials(), timeout=5)
            assert answer.json()["Name"] == "stunet-test"
            return
        except requests.ConnectionError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc did not start:\n{log.read_text(errors='replace')}")


def _credentials() -> tuple[bytes, bytes]:
    return USER.encode(), PASSWORD.encode()
