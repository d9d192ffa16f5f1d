"""A series on a server of our own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.imaging.dicomweb.fake_server import FakeServer, files_of_a_series, serving


@pytest.fixture
def series(tmp_path: Path) -> dict[str, bytes]:
    """Files by SOPInstanceUID."""
    return files_of_a_series(tmp_path / "scan")


@pytest.fixture
def server(series: dict[str, bytes]) -> Iterator[FakeServer]:
    """A good server, until a test sets `answer`."""
    with serving(FakeServer(series)) as one:
        yield one
