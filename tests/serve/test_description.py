"""The API's description is whole, and nothing that it allows leads to an internal error."""

import pytest
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from stunet.serve.app import make_app
from stunet.serve.settings import ServerSettings

schemathesis = pytest.importorskip("schemathesis")


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    return make_app(ServerSettings(tmp_path_factory.mktemp("server")))


def test_each_operation_is_described(app):
    description = app.openapi()
    paths = {path: operations for path, operations in description["paths"].items() if path.startswith("/api/v1")}
    assert len(paths) == len(description["paths"]) >= 16
    for path, operations in paths.items():
        for method, operation in operations.items():
            assert operation["description"], (method, path)
            assert "422" in operation["responses"], (method, path)
            refused = operation["responses"]["422"]["content"]["application/json"]["schema"]
            assert refused == {"$ref": "#/components/schemas/ErrorAnswer"}
    upload = paths["/api/v1/scans"]["post"]["requestBody"]["content"]
    assert list(upload) == ["multipart/form-data"]


def test_there_is_no_page_with_scripts_of_others(app):
    http = TestClient(app, base_url="http://localhost")
    assert http.get("/docs").status_code == http.get("/redoc").status_code == 404


@pytest.fixture(scope="module")
def done(server, hippocampus):
    """A job with results, so that not all is answered by 404."""
    with server.client() as client:
        return client.wait(client.submit(client.upload(hippocampus), "hippocampus"))


def test_whatever_is_sent_there_is_no_internal_error(server, done):
    api = schemathesis.openapi.from_url(f"{server.url}/api/v1/openapi.json")
    operations = [result.ok() for result in api.get_all_operations()]
    assert len(operations) >= 18
    for operation in operations:
        _try_out(operation, done.job)


def _try_out(operation, job):
    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(case=operation.as_strategy())
    def each(case):
        if "job" in (case.path_parameters or {}) and case.method != "DELETE":
            case.path_parameters["job"] = job
        case.cookies, headers = {}, {"X-Stunet": "1"}
        case.headers.pop("Authorization", None)
        response = case.call(headers=headers, timeout=60)
        assert response.status_code < 500 or response.status_code == 503, (operation.label, response.text)
        assert b"Traceback" not in response.content
        if response.status_code >= 400:
            assert set(response.json()) == {"error"}, operation.label

    each()
