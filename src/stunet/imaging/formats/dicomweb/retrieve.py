"""Retrieve a series from a DICOMweb server into a folder, file by file. Files that exist are not retrieved again."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.errors import FileError, UnsafeFileError, UserError
from stunet.files import made_folder, replacing
from stunet.imaging.formats.dicomweb.address import Address, parse_address
from stunet.imaging.formats.dicomweb.server import connection
from stunet.imaging.formats.dicomweb.study import instances_of

if TYPE_CHECKING:
    from dicomweb_client import DICOMwebClient

MAX_BYTES = 16 * 2**30
"""Total size of the files of a series."""

THREADS = 4
"""Files that are retrieved at a time."""

DOING = "retrieve the series"

OnInstance = Callable[[int, int], None]
"""Called with the number of files that are there, and of all."""


class TooLargeError(UnsafeFileError):
    """A series has more files or bytes than the caller takes."""


def retrieve(
    address: str | Address,
    folder: str | Path,
    on_instance: OnInstance = lambda done, total: None,
    most_files: int | None = None,
    most_bytes: int | None = None,
) -> list[Path]:
    """Retrieve a series into a folder, one file for each instance.

    Files that are there already stay, and are not retrieved again: call it once more after an interruption. Each file
    appears only when it is complete. A folder that is made can be entered by this user only.

    Args:
        address: `dicomweb://HOST[:PORT][/PREFIX]/studies/UID/series/UID`.
        folder: for this series alone.
        on_instance: called after each file.
        most_files: a series with more files is refused; `MAX_ANSWERS` by default.
        most_bytes: a series with more bytes is refused; `MAX_BYTES` by default.

    Returns:
        The files of the series, in the order in which the server names them.

    Raises:
        TooLargeError: the series is larger than allowed.
        UserError: the server can't be reached, refuses, does not have the series, sends something else, or the files
            cannot be written.
    """
    address = parse_address(address) if isinstance(address, str) else address
    if not address.series:
        raise UserError(f"{address}: names no series. Add /studies/UID/series/UID.")
    folder = Path(folder)
    paths = {uid: folder / f"{uid}.dcm" for uid in _instances(address, most_files)}
    if not folder.exists():
        made_folder(folder).chmod(0o700)
    try:
        with connection(address, DOING) as client:
            _fetch_missing(client, address, paths, on_instance, MAX_BYTES if most_bytes is None else most_bytes)
    except UserError as error:
        kept = sum(path.exists() for path in paths.values())
        raise type(error)(f"{error} {kept} of {len(paths)} files are here and will not be retrieved again.") from error
    return list(paths.values())


def _instances(address: Address, most_files: int | None) -> list[str]:
    """The UIDs of the files of a series."""
    with connection(address, DOING) as client:
        found = instances_of(client, address)
    if not found:
        raise FileError(f"{address}: cannot {DOING}: the server knows no instances of it. Check the UIDs.")
    if most_files is not None and len(found) > most_files:
        raise TooLargeError(f"{address}: has {len(found):,} files, and a scan may have at most {most_files:,} here.")
    return found


def _fetch_missing(
    client: "DICOMwebClient", address: Address, paths: dict[str, Path], on_instance: OnInstance, most_bytes: int
) -> None:
    """Fetch the missing files. Complete files stay, whatever stops it."""
    missing = [uid for uid, path in paths.items() if not path.exists()]
    done, total = len(paths) - len(missing), sum(path.stat().st_size for path in paths.values() if path.exists())
    stopped = threading.Event()

    def fetch(uid: str) -> int:
        """Bytes of one more file; none once another has failed."""
        return 0 if stopped.is_set() else _fetch(client, address, uid, paths[uid])

    with ThreadPoolExecutor(THREADS, "stunet-retrieve") as pool:
        try:
            for size in pool.map(fetch, missing):
                done, total = done + 1, total + size
                if total > most_bytes:
                    raise TooLargeError(
                        f"{address}: has more than {most_bytes:,} bytes, and no scan may be that large."
                    )
                on_instance(done, len(paths))
        finally:
            stopped.set()


def _fetch(client: "DICOMwebClient", address: Address, uid: str, path: Path) -> int:
    """Retrieve one instance, and see that it is the one that was asked for."""
    dataset = client.retrieve_instance(address.study, address.series, uid)
    if (dataset.get("SOPInstanceUID"), dataset.get("SeriesInstanceUID")) != (uid, address.series):
        raise FileError(f"{address}: the server sent another instance than the one it was asked for. Ask who runs it.")
    with replacing(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        return temporary.stat().st_size
