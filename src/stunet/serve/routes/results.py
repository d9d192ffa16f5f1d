"""What a finished job gives: statistics, images for the viewer, files to take away, a comparison with a reference."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from fastapi import Query, Request
from starlette.responses import FileResponse

from stunet.errors import MissingPackageError, OutputError
from stunet.files import read_json_object
from stunet.serve.answers import ClassScore, ReferenceAnswer, StructureAnswer
from stunet.serve.overview import OVERVIEW_LABELS, OVERVIEW_SCAN
from stunet.serve.references import REFERENCE, compare
from stunet.serve.refusal import RefusedError, nothing_there
from stunet.serve.result_files import DICOM, FORMATS, make_file
from stunet.serve.routes.common import Owner, Server, in_helper, router
from stunet.serve.routes.scans import FILES
from stunet.serve.saved_result import LABELS, RECORD, SCAN, read_structures
from stunet.serve.scan_table import new_id
from stunet.serve.service import Service
from stunet.serve.uploads import receive_files

routes = router("results")

GZIP = "application/gzip"


def _file(media_type: str) -> dict[str, Any]:
    """An answer that is a file, for the API's description."""
    content = {media_type: {"schema": {"type": "string", "format": "binary"}}}
    return {"response_class": FileResponse, "responses": {200: {"content": content, "description": "The file."}}}


@routes.get("/jobs/{job}/statistics")
def statistics(job: str, server: Server, owner: Owner) -> list[StructureAnswer]:
    """Every structure that was found: volume, mean value, place, and what makes it doubtful."""
    return read_structures(_folder(server, job, owner))


@routes.get("/jobs/{job}/record")
def record(job: str, server: Server, owner: Owner) -> dict[str, Any]:
    """How a result came about: versions, machine, model, settings, seconds, and the meaning of the labels."""
    return read_json_object(_folder(server, job, owner) / RECORD)


Overview = Annotated[
    bool, Query(description="Every `overview_step`th voxel along each axis, as in the record; whole where that is 1.")
]


@routes.get("/jobs/{job}/scan", **_file(GZIP))
def scan(job: str, server: Server, owner: Owner, overview: Overview = False) -> FileResponse:
    """The scan as NIfTI, on the grid of the labels."""
    path = _image(_folder(server, job, owner), SCAN, OVERVIEW_SCAN if overview else None)
    return FileResponse(path, media_type=GZIP, filename="scan.nii.gz")


@routes.get("/jobs/{job}/labels", **_file(GZIP))
def labels(job: str, server: Server, owner: Owner, overview: Overview = False) -> FileResponse:
    """The label map as NIfTI."""
    path = _image(_folder(server, job, owner), LABELS, OVERVIEW_LABELS if overview else None)
    return FileResponse(path, media_type=GZIP, filename="labels.nii.gz")


FormatName = Literal[
    "nifti", "nrrd", "seg.nrrd", "dicom-seg", "dicom-seg-binary", "rtstruct", "csv", "stl", "glb", "html", "pdf"
]
"""The names of `stunet.serve.result_files.FORMATS`."""


@routes.get("/jobs/{job}/results/{format_name}", **_file("application/octet-stream"))
async def result(
    job: str,
    format_name: FormatName,
    server: Server,
    owner: Owner,
    classes: Annotated[
        str, Query(max_length=20_000, description="Structures, with commas between them; all where empty.")
    ] = "",
) -> FileResponse:
    """A file to take away. Formats of DICOM need a scan that was DICOM."""
    _folder(server, job, owner)
    kind = FORMATS[format_name]
    if kind.media_type == DICOM:
        _require_dicom(server, job, owner)
    chosen = tuple(sorted({name.strip() for name in classes.split(",") if name.strip()}))
    place = server.place_of(server.jobs.get(job, owner))
    try:
        path: Path = await in_helper(server, make_file, place, format_name, chosen)
    except (OutputError, MissingPackageError) as error:
        raise RefusedError(409, str(error)) from None
    return FileResponse(path, media_type=kind.media_type, filename=f"segmentation{kind.ending}")


@routes.post("/jobs/{job}/reference", openapi_extra=FILES)
async def add_reference(job: str, request: Request, server: Server, owner: Owner) -> ReferenceAnswer:
    """Compare a result with a label map on the same grid, with the same integers."""
    folder = _folder(server, job, owner)
    upload = server.scan_folder(f"reference-{new_id()}")
    async with server.gate.one_more():
        await receive_files(request, upload, server.settings.limits)
    try:
        scores = cast(Sequence[ClassScore], await in_helper(server, compare, folder, upload))
    finally:
        shutil.rmtree(upload, ignore_errors=True)
    return ReferenceAnswer(list(scores))


@routes.get("/jobs/{job}/reference", **_file(GZIP))
def reference(job: str, server: Server, owner: Owner) -> FileResponse:
    """The reference as NIfTI, on the grid of the labels."""
    path = _folder(server, job, owner) / REFERENCE
    if not path.exists():
        raise nothing_there("reference")
    return FileResponse(path, media_type=GZIP, filename="reference.nii.gz")


def _image(folder: Path, whole: str, overview: str | None) -> Path:
    """An image of a result: its overview if there is one and it is wanted."""
    if overview and (folder / overview).exists():
        return folder / overview
    return folder / whole


def _require_dicom(server: Service, job: str, owner: str) -> None:
    """Refuse results as DICOM that cannot be.

    Raises:
        RefusedError: the scan is not DICOM, or was deleted.
    """
    try:
        scan = server.scans.get(server.jobs.get(job, owner).request.scan, owner)
    except RefusedError:
        raise RefusedError(409, "The scan was deleted, and results as DICOM need it.") from None
    if scan.answer.kind != "dicom":
        raise RefusedError(409, "The scan is not DICOM, so there are no results as DICOM. Choose another format.")


def _folder(server: Service, job: str, owner: str) -> Path:
    """The folders of a finished job.

    Raises:
        RefusedError: no such job, or one that is not done.
    """
    found = server.jobs.get(job, owner)
    if found.state != "done":
        raise RefusedError(409, f"The job is {found.state}, so there is no result.")
    return server.job_folder(job)
