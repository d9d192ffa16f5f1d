"""Servers in processes of their own, as `stunet serve` starts them, and scans for them."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel
import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra serve is not installed")

from stunet.cli.demo import SCANS, scan_file
from stunet.serve.client import Client
from tests.conftest import REPOSITORY
from tests.phantoms import smooth_scan


class RunningServer:
    """`stunet serve` as a child process.

    Args:
        data: folder of the server.
        options: of the command.
        variables: of its environment.
    """

    module = "stunet"
    """What Python runs."""

    def __init__(self, data: Path, *options: str, **variables: str):
        self.data = data
        command = [sys.executable, "-m", self.module, "serve", "--port", "0", "--data", str(data), *options]
        environment = {**os.environ, "PYTHONPATH": f"{REPOSITORY / 'src'}{os.pathsep}{REPOSITORY}", **variables}
        self.process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=_hear_interrupts
        )
        said = []
        for line in self.process.stderr:
            said.append(line)
            if found := re.search(r"stunet serves (\S+)", line):
                self.url = found[1]
                break
        else:
            raise AssertionError("".join(said))
        self.said = "".join(said)

    def client(self, token: str | None = None) -> Client:
        return Client(self.url, token)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def end(self) -> int:
        """As Ctrl-C does."""
        self.process.send_signal(signal.SIGINT)
        try:
            _, said = self.process.communicate(timeout=60)
            self.said += said
            return self.process.returncode
        finally:
            self.kill()


class HaltingServer(RunningServer):
    """A server whose jobs halt where a test says; see `tests.serve.halting`."""

    module = "tests.serve.halting"

    def __init__(self, data: Path):
        self._place = data / "halt"
        super().__init__(data, STUNET_TEST_HALT=str(self._place))

    def halt_at(self, place: str | None) -> None:
        """Let the next job stay at a place; at none by default."""
        self._place.with_suffix(".reached").unlink(missing_ok=True)
        self._place.write_text(place or "")

    def wait_for_halt(self) -> None:
        """Wait until a job is there."""
        wait_until(self._place.with_suffix(".reached").exists)


def _hear_interrupts() -> None:
    """Test workers of pytest-xdist ignore Ctrl-C, and their children would, too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server that all tests may use."""
    running = RunningServer(tmp_path_factory.mktemp("server"))
    yield running
    running.kill()


@pytest.fixture
def client(server: RunningServer) -> Iterator[Client]:
    with server.client() as client:
        yield client


@pytest.fixture(scope="session")
def hippocampus() -> Path:
    """The bundled scan."""
    return scan_file(SCANS[0])


@pytest.fixture(scope="session")
def large_scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan that takes the bundled model several seconds."""
    path = tmp_path_factory.mktemp("large") / "large.nii.gz"
    nibabel.save(nibabel.Nifti1Image(smooth_scan((96, 80, 96)).astype(np.float32), np.eye(4)), path)
    return path


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)
