"""Whether the server answers, whether it runs jobs, and which models it has."""

from fastapi import Response

from stunet.serve.answers import API_VERSION, Health, ModelAnswer, Readiness
from stunet.serve.routes.common import Owner, Server, in_thread, router

routes = router("server")


@routes.get("/health")
async def health() -> Health:
    """That the server answers, and its version."""
    from stunet import __version__

    return Health("ok", __version__, API_VERSION)


@routes.get("/ready")
def ready(server: Server, response: Response) -> Readiness:
    """Whether jobs are run; 503 while they are not."""
    if not server.is_ready:
        response.status_code = 503
    return Readiness(server.is_ready, server.device or "", server.jobs.queued())


@routes.get("/models")
async def models(server: Server, owner: Owner) -> list[ModelAnswer]:
    """The models that jobs may name."""
    described: list[ModelAnswer] = await in_thread(server, lambda: server.models)
    return described
