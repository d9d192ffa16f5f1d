"""Scans that are not uploaded: in a folder of the server, or on a DICOMweb server, where the server allows it."""

from collections.abc import Sequence
from pathlib import Path

from stunet.errors import FileError, MissingPackageError, UserError
from stunet.imaging.formats.dicomweb.address import Address, parse_address
from stunet.imaging.formats.dicomweb.retrieve import TooLargeError, retrieve
from stunet.imaging.formats.dicomweb.server import require_client
from stunet.serve.refusal import RefusedError
from stunet.serve.settings import Limits


def allowed_path(named: str, folders: Sequence[Path]) -> Path:
    """A path of the server that a user may name, with links followed.

    Raises:
        RefusedError: it lies below none of the folders, or is not there; the two are not told apart.
    """
    try:
        path = Path(named).resolve(strict=True)
    except (OSError, ValueError, RuntimeError):
        path = None
    if path is None or not any(path.is_relative_to(folder) for folder in folders):
        raise RefusedError(403, "This server has no scan there, or does not allow it.")
    return path


def require_servers(servers: Sequence[str]) -> None:
    """Check the addresses of DICOMweb servers before users ask for a series.

    Raises:
        UserError: one has another form, or dicomweb-client is not installed.
    """
    if servers:
        require_client()
    for url in servers:
        dicomweb_address(url)


def dicomweb_address(url: str) -> Address:
    """A DICOMweb server, or a series on it, by its URL.

    Raises:
        UserError: it has another form.

    >>> str(dicomweb_address("http://127.0.0.1:8042/dicom-web"))
    'dicomweb://127.0.0.1:8042/dicom-web'
    """
    return parse_address(f"dicomweb+{url}")


def fetch_series(url: str, servers: Sequence[str], folder: Path, limits: Limits) -> int:
    """Fetch a series from a DICOMweb server.

    Args:
        url: of the series, `SERVER/studies/UID/series/UID`.
        servers: URLs of the servers that are allowed.
        folder: for the files; created here.
        limits: the limits of an upload apply.

    Returns:
        The bytes of all files.

    Raises:
        RefusedError: an address that is not allowed, or a series that is too large.
        FileError: the server does not answer as expected, or has no such series.
        MissingPackageError: dicomweb-client is not installed.
    """
    series = _allowed(url, servers)
    try:
        files = retrieve(series, folder, most_files=limits.upload_files, most_bytes=limits.upload_bytes)
    except TooLargeError as error:
        raise RefusedError(
            413,
            f"The series is larger than this server takes: at most {limits.upload_files:,} files with "
            f"{limits.upload_bytes / 2**20:,.0f} MiB in total.",
        ) from error
    except MissingPackageError:
        raise
    except UserError as error:
        raise FileError("The DICOMweb server does not answer as expected, or has no such series.") from error
    return sum(path.stat().st_size for path in files)


def _allowed(url: str, servers: Sequence[str]) -> Address:
    """The series of a URL, if its server is allowed."""
    refusal = RefusedError(403, "This server does not allow that address, or it is not the address of a series.")
    try:
        series = dicomweb_address(url)
    except UserError as error:
        raise refusal from error
    if not series.series or series.server not in map(dicomweb_address, servers):
        raise refusal
    return series
