"""Jobs: asked for, followed, cancelled, deleted."""

import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated

import anyio
from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import StreamingResponse
from starlette.status import HTTP_201_CREATED, HTTP_204_NO_CONTENT

from stunet.errors import UnknownNameError
from stunet.serve.answers import JobAnswer, ModelAnswer, ScanAnswer
from stunet.serve.job_table import Job, JobRequest
from stunet.serve.refusal import RefusedError
from stunet.serve.routes.common import Owner, Server, in_thread, router
from stunet.serve.routes.scans import take_path, take_series
from stunet.serve.scan_table import new_id
from stunet.serve.service import Service

routes = router("jobs")

LOOK_SECONDS = 0.25
"""How often a job is looked at for those who follow it."""

SIGN_OF_LIFE = 15.0
"""Seconds after which a follower hears from the server even where nothing changed."""


class JobOrderBody(BaseModel):
    """What to segment, and how."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(max_length=100, description="Name of a model.")]
    scan: Annotated[str | None, Field(max_length=100, description="A scan that was uploaded.")] = None
    path: Annotated[
        str | None, Field(max_length=4000, description="Instead: a file or folder of the server, where it allows it.")
    ] = None
    dicomweb: Annotated[
        str | None, Field(max_length=2000, description="Instead: the address of a series, where the server allows it.")
    ] = None
    series: Annotated[int | None, Field(ge=1, le=1_000_000, description="Of DICOM; null for the plainly best.")] = None
    classes: Annotated[
        list[Annotated[str, Field(max_length=200)]] | None,
        Field(max_length=2000, description="The only structures to label; null for all."),
    ] = None
    augment_mirror: Annotated[bool, Field(description="Average over mirrored copies: slower, a little better.")] = False


@routes.post("/jobs", status_code=HTTP_201_CREATED)
async def submit(body: JobOrderBody, server: Server, owner: Owner) -> JobAnswer:
    """Ask for a segmentation."""
    model = _model(await in_thread(server, lambda: server.models), body.model)
    classes = tuple(dict.fromkeys(body.classes or ()))
    _require_known(model, classes)
    _require_place(server, owner)
    scan = await _scan(body, server, owner)
    if body.series is not None and body.series not in [one.number for one in scan.series]:
        raise RefusedError(422, f"The scan has no DICOM series {body.series}.")
    request = JobRequest(scan.scan, body.series, model.name, classes, body.augment_mirror)
    job = server.jobs.add(new_id(), owner, request)
    server.runner.wake()
    return _answer(server, job)


@routes.get("/jobs")
def all_jobs(server: Server, owner: Owner) -> list[JobAnswer]:
    """Your jobs, the newest first."""
    return [_answer(server, job) for job in server.jobs.of(owner)]


@routes.get("/jobs/{job}")
def one_job(job: str, server: Server, owner: Owner) -> JobAnswer:
    """A job as it is now."""
    return _answer(server, server.jobs.get(job, owner))


@routes.get(
    "/jobs/{job}/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def events(job: str, request: Request, server: Server, owner: Owner) -> StreamingResponse:
    """Follow a job: server-sent events, each with the job as JSON, until it is over."""
    server.jobs.get(job, owner)
    headers = {"X-Accel-Buffering": "no"}  # nginx would hold events back
    return StreamingResponse(_changes(job, owner, server, request), headers=headers, media_type="text/event-stream")


@routes.post("/jobs/{job}/cancel")
def cancel(job: str, server: Server, owner: Owner) -> JobAnswer:
    """End a job that waits or runs; one that is over stays as it is."""
    server.jobs.get(job, owner)
    server.runner.cancel(job)
    return _answer(server, server.jobs.get(job, owner))


@routes.delete("/jobs/{job}", status_code=HTTP_204_NO_CONTENT)
def delete(job: str, server: Server, owner: Owner) -> None:
    """Erase a job and its results at once; one that waits or runs is ended."""
    server.jobs.get(job, owner)
    server.remove_job(job)


async def _changes(job: str, owner: str, server: Service, request: Request) -> AsyncIterator[str]:
    """An event for each change."""
    last, quiet = "", 0.0
    while not server.is_closing and not await request.is_disconnected():
        try:
            now = server.jobs.get(job, owner)
        except RefusedError:  # it was deleted
            return
        text = json.dumps(asdict(_answer(server, now)))
        if text != last:
            yield f"data: {text}\n\n"
            last, quiet = text, 0.0
        elif quiet >= SIGN_OF_LIFE:
            yield ": nothing new\n\n"
            quiet = 0.0
        if now.is_over:
            return
        await anyio.sleep(LOOK_SECONDS)
        quiet += LOOK_SECONDS


async def _scan(body: JobOrderBody, server: Service, owner: str) -> ScanAnswer:
    """What to segment."""
    if [body.scan, body.path, body.dicomweb].count(None) != 2:
        raise RefusedError(422, "Name one of scan, path and dicomweb.")
    if body.path is not None:
        return await take_path(server, owner, body.path)
    if body.dicomweb is not None:
        return await take_series(server, owner, body.dicomweb)
    return server.scans.get(str(body.scan), owner).answer


def _answer(server: Service, job: Job) -> JobAnswer:
    return job.answer(server.jobs.ahead(job.id), server.settings.limits.kept_hours)


def _model(models: list[ModelAnswer], name: str) -> ModelAnswer:
    """The model of a name.

    Raises:
        RefusedError: none, or one that is not on the server.
    """
    for model in models:
        if model.name == name:
            if not model.available:
                raise RefusedError(
                    409, f"Model {name!r} is not on the server. Its administrator can get it: stunet weights get {name}"
                )
            return model
    raise RefusedError(422, str(UnknownNameError.of("model", name, [model.name for model in models])))


def _require_known(model: ModelAnswer, classes: tuple[str, ...]) -> None:
    known = [one.name for one in model.classes]
    for name in classes:
        if name not in known:
            raise RefusedError(422, str(UnknownNameError.of("structure", name, known)))


def _require_place(server: Service, owner: str) -> None:
    limits = server.settings.limits
    if server.jobs.open_of(owner) >= limits.jobs_of_one_user:
        raise RefusedError(429, "Many of your jobs wait already; try again when one is done.")
    if server.jobs.queued() >= limits.queued_jobs:
        raise RefusedError(429, "The queue of this server is full; try again later.")
