"""An S3-compatible server on loopback (moto's), which answers 503 or ignores conditions when a test wants it to."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any

import boto3
from moto.server import DomainDispatcherApplication, create_backend_app
from s3fs import S3FileSystem
from werkzeug.serving import WSGIRequestHandler, make_server

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "NO_PROXY": "127.0.0.1",
    "no_proxy": "127.0.0.1",
}


class Silent(WSGIRequestHandler):
    def log(self, *arguments: object) -> None:
        pass


class FaultyStore:
    """A server whose faults are switched by its attributes.

    Attributes:
        refuses: called with the number of each request; True for an answer 503.
        ignores_conditions: whether If-None-Match is ignored, as by older servers.
        refused: requests that were answered 503.
        requests: all requests.
    """

    def __init__(self) -> None:
        self.refuses: Callable[[int], bool] = lambda number: False
        self.ignores_conditions = False
        self.refused = self.requests = 0
        self._numbers, self._buckets = count(1), count(1)
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self, threaded=True, request_handler=Silent)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        self.requests += 1
        if self.refuses(next(self._numbers)):
            self.refused += 1
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response("503 Slow Down", [("Content-Type", "application/xml")])
            return [b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"]
        if self.ignores_conditions:
            environ.pop("HTTP_IF_NONE_MATCH", None)
        return self._app(environ, start_response)

    def client(self) -> Any:
        return boto3.client("s3", endpoint_url=self.url)

    def bucket(self) -> str:
        """The URL of a new bucket."""
        name = f"bucket{next(self._buckets)}"
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"

    def content(self, url: str) -> dict[str, bytes]:
        """Key -> content of the objects of a bucket."""
        client, bucket = self.client(), url.removeprefix("s3://")
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        keys = [one["Key"] for page in pages for one in page.get("Contents", ())]
        return {key: client.get_object(Bucket=bucket, Key=key)["Body"].read() for key in keys}

    def close(self) -> None:
        self._server.shutdown()


@contextmanager
def faulty_store() -> Iterator[FaultyStore]:
    """A running server, to which the environment points.

    s3fs keeps its connections for as long as the process runs, so those to another server are dropped first.
    """
    S3FileSystem.clear_instance_cache()
    before = dict(os.environ)
    os.environ.update(CREDENTIALS)
    store = FaultyStore()
    os.environ["AWS_ENDPOINT_URL_S3"] = store.url
    try:
        yield store
    finally:
        store.close()
        os.environ.clear()
        os.environ.update(before)
