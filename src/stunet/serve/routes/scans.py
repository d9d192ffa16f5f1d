"""Scans come in, and go."""

import shutil
from pathlib import Path
from typing import Any

from fastapi import Request
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from stunet.files import removed_on_failure
from stunet.serve.answers import ScanAnswer
from stunet.serve.other_sources import allowed_path, fetch_series
from stunet.serve.reading import FoundScan, look_into
from stunet.serve.refusal import RefusedError
from stunet.serve.routes.common import Owner, Server, in_helper, in_thread, router
from stunet.serve.scan_table import new_id
from stunet.serve.service import Service
from stunet.serve.stored_scan import files_in
from stunet.serve.uploads import receive_files

routes = router("scans")

FILES: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    }
}
"""What an upload looks like, for the API's description."""


@routes.post("/scans", status_code=HTTP_201_CREATED, openapi_extra=FILES)
async def upload(request: Request, server: Server, owner: Owner) -> ScanAnswer:
    """Upload a scan: an image, its channels in their order, a zip of DICOM, or the files of a DICOM folder.

    The name of a part may hold a path, as a folder of files has it. Images are NIfTI, NRRD, MetaImage or MGH, each one
    file.
    """
    require_place(server, owner)
    scan = new_id()
    folder = server.scan_folder(scan)
    async with server.gate.one_more():
        received = await receive_files(request, folder, server.settings.limits)
    return await _keep(server, owner, scan, received.bytes)


@routes.post("/scans/demo", status_code=HTTP_201_CREATED)
async def demo(server: Server, owner: Owner) -> ScanAnswer:
    """The scan that comes with stunet."""
    given = server.settings.demo_scan
    if given is None:
        raise RefusedError(404, "This server has no demo.")
    require_place(server, owner)
    scan = new_id()
    folder = server.scan_folder(scan)
    folder.mkdir()
    shutil.copyfile(given, folder / f"000001{''.join(given.suffixes)}")
    return await _keep(server, owner, scan, given.stat().st_size)


@routes.delete("/scans/{scan}", status_code=HTTP_204_NO_CONTENT)
def delete(scan: str, server: Server, owner: Owner) -> None:
    """Erase a scan at once. Results of finished jobs stay, except as DICOM."""
    server.scans.get(scan, owner)
    if any(not job.is_over for job in server.jobs.using(scan)):
        raise RefusedError(409, "A job with this scan waits or runs; cancel it first.")
    server.remove_scan(scan)


def require_place(server: Service, owner: str) -> None:
    """Refuse more scans of one user than there may be.

    Raises:
        RefusedError: there are as many.
    """
    if server.scans.count(owner) >= server.settings.limits.scans_of_one_user:
        raise RefusedError(429, "You have many scans on this server; delete one first.")


async def _keep(server: Service, owner: str, scan: str, size: int) -> ScanAnswer:
    """Look into an upload and keep it, or remove it where it is no scan."""
    folder = server.scan_folder(scan)
    with removed_on_failure(folder):
        return await keep_at(server, owner, scan, folder, size)


async def keep_at(server: Service, owner: str, scan: str, place: Path, size: int) -> ScanAnswer:
    """Keep what lies in a file or folder as a scan of a user.

    Raises:
        UserError: it is no scan.
    """
    found: FoundScan = await in_helper(server, look_into, place)
    answer = ScanAnswer(scan, found.kind, found.shape, found.spacing, size, list(found.series), found.chosen)
    server.scans.add(scan, owner, place, answer)
    return answer


async def take_path(server: Service, owner: str, named: str) -> ScanAnswer:
    """A scan that lies on the server; it stays where it is.

    Raises:
        UserError: it is not allowed, or no scan.
    """
    require_place(server, owner)
    path = allowed_path(named, server.settings.folders)
    return await keep_at(server, owner, new_id(), path, sum(one.stat().st_size for one in files_in(path)))


async def take_series(server: Service, owner: str, url: str) -> ScanAnswer:
    """A series of a DICOMweb server.

    Raises:
        UserError: it is not allowed, not there, or no scan.
    """
    require_place(server, owner)
    scan = new_id()
    folder = server.scan_folder(scan)
    with removed_on_failure(folder):
        arguments = url, server.settings.dicomweb, folder, server.settings.limits
        size: int = await in_thread(server, fetch_series, *arguments)
        return await keep_at(server, owner, scan, folder, size)
