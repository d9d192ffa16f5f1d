"""The servers that the pages speak of: `stunet serve`, a DICOM archive, a store."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.imaging.dicomweb.orthanc import PASSWORD, PLUGIN, PROGRAM, USER, running_orthanc


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


@contextmanager
def archive(folder: Path) -> Iterator[None]:
    """Orthanc at `PACS`, with the study 1.2.3 in it: two series of CT, 1.2.3.4 and 1.2.3.5."""
    from stunet.imaging.formats.dicomweb.store import store
    from tests.docs.stand_ins import write_series

    folder.mkdir()
    with running_orthanc(folder, StableAge=1) as address, pytest.MonkeyPatch.context() as patch:
        for name, value in (("USER", USER), ("PASSWORD", PASSWORD)):
            patch.setenv(f"STUNET_DICOMWEB_{name}", value)
            patch.setenv(f"ORTHANC_{name}", value)
        patch.setenv("PACS", address.removeprefix("dicomweb://").partition("/")[0])
        for series in ("1.2.3.4", "1.2.3.5"):
            store(write_series(folder / series, "1.2.3", series), address)
        yield


@contextmanager
def bucket(folder: Path) -> Iterator[None]:
    """`s3://bucket`, with the scans of the folder `scans`."""
    from tests.batch.loopback_store import faulty_store

    with faulty_store() as store:
        client = store.client()
        client.create_bucket(Bucket="bucket")
        for scan in Path("scans").iterdir():
            client.upload_file(str(scan), "bucket", f"scans/{scan.name}")
        yield


SERVICES: dict[str, Callable[[Path], AbstractContextManager[None]]] = {"Orthanc": archive, "moto": bucket}
"""What is started for a page whose blocks need it."""


def is_here(program: str) -> bool:
    """Whether what a block needs is on this machine."""
    if program == "Orthanc":
        return PROGRAM is not None and PLUGIN.exists()
    return find_spec(program) is not None
