"""What strangers try on a server. Each row is refused, or does no harm, and no answer says anything of the machine."""

import asyncio
import io
import zipfile
from pathlib import Path

import anyio
import httpx
import nibabel
import numpy as np
import pytest
from starlette.requests import Request
from starlette.testclient import TestClient

from stunet.errors import OutputError
from stunet.serve.app import make_app
from stunet.serve.client import Client
from stunet.serve.connection import ServerError
from stunet.serve.refusal import RefusedError
from stunet.serve.settings import Limits, ServerSettings
from stunet.serve.uploads import receive_files
from tests.phantoms import write_dicom_series

ANNA, BEN = "anna's secret token", "ben's secret token!"
OWN = {"X-Stunet": "1"}


@pytest.fixture
def raw(server):
    """Plain HTTP to the running server, without a cookie."""
    with httpx.Client(base_url=server.url, timeout=60) as http:
        yield http


@pytest.fixture
def strict(tmp_path):
    """A server with tokens and small limits; nothing runs behind it."""
    limits = Limits(upload_bytes=10_000, upload_files=3, uploads=1)
    settings = ServerSettings(tmp_path / "data", tokens={ANNA: "anna", BEN: "ben"}, limits=limits)
    return TestClient(make_app(settings), base_url="http://localhost")


def upload(http, name, content, headers=OWN):
    return http.post("/api/v1/scans", files=[("file", (name, content))], headers=headers)


def image_bytes(shape=(4, 4, 4)):
    return nibabel.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)).to_bytes()


def says_nothing_of_the_machine(response, *words):
    for word in ("Traceback", "/home", "/tmp", "/root", "site-packages", *words):
        assert word not in response.text, response.text


# Where requests come from


def test_dns_rebinding(raw):
    for host in ("evil.example", "evil.example:8000", "127.0.0.1.evil.example", "", "[::1"):
        assert raw.get("/api/v1/health", headers={"Host": host}).status_code in (400, 421), host
    assert raw.get("/", headers={"Host": "evil.example"}).status_code == 421
    for host in ("localhost", "LOCALHOST:1", "127.0.0.1:1", "[::1]:8000"):
        assert raw.get("/api/v1/health", headers={"Host": host}).status_code == 200, host


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "https://evil.example", **OWN},
        {"Origin": "null", **OWN},
        {"Origin": "http://localhost:1", **OWN},
        {"Sec-Fetch-Site": "cross-site", **OWN},
        {"Sec-Fetch-Site": "same-site", **OWN},
        {"Content-Type": "text/plain"},
    ],
)
def test_a_cross_site_post(raw, headers):
    """A page elsewhere can send forms and plain text to this machine's ports, but no header of its own."""
    assert raw.post("/api/v1/scans/demo", headers=headers).status_code == 403
    assert raw.delete("/api/v1/jobs/x", headers=headers).status_code == 403


def test_no_other_site_may_read(raw):
    response = raw.get("/api/v1/jobs", headers={"Origin": "https://evil.example"})
    assert response.status_code == 403 and "access-control-allow-origin" not in response.headers
    preflight = raw.options("/api/v1/scans/demo", headers={"Origin": "https://evil.example"})
    assert preflight.status_code >= 400 and "access-control-allow-origin" not in preflight.headers


def is_careful(headers):
    """Whether an answer tells the browser to run nothing of others."""
    policy = headers["content-security-policy"]
    return (
        ("script-src 'self'" in policy and "unsafe-inline" not in policy)
        and (headers["x-content-type-options"], headers["referrer-policy"]) == ("nosniff", "no-referrer")
        and (headers["x-frame-options"] == "DENY" and "server" not in headers)
    )


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/api/v1/health", 200),
        ("GET", "/main.js", 200),
        ("GET", "/nothing", 404),
        ("GET", "/%00", 404),
        ("POST", "/main.js", 403),
        ("GET", "/api/v1/jobs/x", 404),
        ("PUT", "/api/v1/jobs", 403),
        ("GET", "/api/v1/jobs?token=x", 400),
    ],
)
def test_answers_tell_the_browser_to_be_careful(raw, method, path, status):
    response = raw.request(method, path)
    assert response.status_code == status and is_careful(response.headers)
    says_nothing_of_the_machine(response)


def test_the_page_gives_a_cookie(raw):
    cookie = raw.get("/").headers.get("set-cookie", "") or raw.cookies.get("stunet_session")
    assert cookie


def test_the_cookie_is_for_this_site_and_no_script(server):
    cookie = httpx.get(server.url).headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()


# Who may see what


def test_tokens_are_needed(strict):
    assert strict.get("/api/v1/health").status_code == 200
    for path in ("models", "jobs", "jobs/x", "jobs/x/events", "jobs/x/results/nifti"):
        assert strict.get(f"/api/v1/{path}").status_code == 401, path
        assert strict.get(f"/api/v1/{path}", headers={"Authorization": "Bearer wrong"}).status_code == 401
    assert strict.get("/api/v1/jobs", headers={"Authorization": f"Bearer {ANNA}"}).json() == []


@pytest.mark.parametrize("query", [f"token={ANNA}", "access_token=x", "TOKEN=x", "t%6Fken=x"])
def test_a_token_in_an_address(strict, query):
    response = strict.get(f"/api/v1/jobs?{query}", headers={"Authorization": f"Bearer {ANNA}"})
    assert response.status_code == 400 and ANNA not in response.text


def test_a_session_by_cookie(strict):
    assert strict.post("/api/v1/session", json={"token": "wrong"}, headers=OWN).status_code == 401
    begun = strict.post("/api/v1/session", json={"token": ANNA}, headers=OWN)
    assert begun.json() == {"user": "anna"} and ANNA not in begun.headers["set-cookie"]
    assert strict.get("/api/v1/jobs").status_code == 200
    assert strict.post("/api/v1/scans/demo").status_code == 403  # the cookie alone shows no intent
    assert strict.delete("/api/v1/session", headers=OWN).status_code == 204
    strict.cookies.clear()
    assert strict.get("/api/v1/jobs").status_code == 401


def test_another_ones_job(server, hippocampus):
    """Two browsers on one machine; each has its own session."""
    own, other = (httpx.Client(base_url=server.url, timeout=60, headers=OWN) for _ in range(2))
    for browser in (own, other):
        browser.get("/")
    scan = upload(own, "a.nii.gz", hippocampus.read_bytes()).json()["scan"]
    job = own.post("/api/v1/jobs", json={"scan": scan, "model": "hippocampus"}).json()["job"]
    assert len(job) >= 32
    assert other.get("/api/v1/jobs").json() == []
    for method, path in (
        *(("GET", f"jobs/{job}"), ("GET", f"jobs/{job}/events"), ("GET", f"jobs/{job}/statistics")),
        *(("GET", f"jobs/{job}/results/nifti"), ("GET", f"jobs/{job}/scan"), ("GET", f"jobs/{job}/record")),
        *(("POST", f"jobs/{job}/cancel"), ("DELETE", f"jobs/{job}"), ("DELETE", f"scans/{scan}")),
    ):
        assert other.request(method, f"/api/v1/{path}").status_code == 404, path
    assert other.post("/api/v1/jobs", json={"scan": scan, "model": "hippocampus"}).status_code == 404
    assert own.get(f"/api/v1/jobs/{job}").status_code == 200


# Uploads


@pytest.mark.parametrize(
    "name", ["../../evil.nii.gz", "/etc/cron.d/evil.nii.gz", "a/../../evil.dcm", "..\\..\\evil.nii.gz"]
)
def test_path_traversal(raw, name, tmp_path):
    response = upload(raw, name, image_bytes())
    assert response.status_code == 400 and "leads out of its folder" in response.json()["error"]
    says_nothing_of_the_machine(response)


@pytest.mark.parametrize("path", ["/../settings.py", "/%2e%2e/settings.py", "/..%2fsettings.py", "/page/../../app.py"])
def test_path_traversal_in_addresses(raw, path):
    response = raw.get(path)
    assert response.status_code in (400, 404) and "frozen" not in response.text


@pytest.mark.parametrize("format_name", ["..%2f..%2fserver.sqlite", "nifti%00", "../record"])
def test_path_traversal_in_formats(raw, format_name):
    assert raw.get(f"/api/v1/jobs/x/results/{format_name}").status_code in (404, 422)


def test_an_oversized_upload(strict):
    token = {"Authorization": f"Bearer {ANNA}"}
    assert upload(strict, "a.nii", bytes(20_000), token).status_code == 413

    def parts():  # without a length that could be looked at
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n'
        for _ in range(1000):
            yield bytes(1000)

    kind = {"Content-Type": "multipart/form-data; boundary=x", **token}
    response = strict.post("/api/v1/scans", content=parts(), headers=kind)
    assert response.status_code == 413
    data = Path(strict.app.state.service.settings.data)
    assert not any(path.is_file() for path in (data / "scans").rglob("*"))
    many = [("file", (f"{number}.dcm", b"x")) for number in range(4)]
    assert strict.post("/api/v1/scans", files=many, headers=token).status_code == 413


def test_a_full_disk(strict, monkeypatch):
    monkeypatch.setattr("stunet.serve.uploads.KEPT_FREE", 2**62)
    response = upload(strict, "a.nii", image_bytes(), {"Authorization": f"Bearer {ANNA}"})
    assert response.status_code == 507 and "no room" in response.json()["error"]
    assert not list((strict.app.state.service.settings.data / "scans").iterdir())


def test_an_oversized_request(strict):
    body = b'{"token": "' + b"x" * 200_000 + b'"}'
    headers = {**OWN, "Content-Type": "application/json"}
    assert strict.post("/api/v1/session", content=body, headers=headers).status_code == 413
    assert strict.post("/api/v1/session", content=iter([body]), headers=headers).status_code in (400, 413)
    as_upload = {**OWN, "Content-Type": "multipart/form-data; boundary=x"}
    assert strict.post("/api/v1/session", content=body, headers=as_upload).status_code == 413


@pytest.mark.parametrize("limits", [Limits(idle_seconds=0.05), Limits(upload_seconds=0.2)])
def test_a_slow_upload(tmp_path, limits):
    came = [b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\n']

    async def receive():
        await anyio.sleep(0.02 if limits.upload_seconds < 1 else (0 if came else 10))
        return {"type": "http.request", "body": came.pop() if came else b"x", "more_body": True}

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    request = Request({"type": "http", "method": "POST", "headers": headers}, receive)
    with pytest.raises(RefusedError, match="took too long") as refused:
        asyncio.run(receive_files(request, tmp_path / "scan", limits))
    assert refused.value.status == 408 and not (tmp_path / "scan").exists()


def test_an_upload_that_breaks_off(raw):
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.nii"\r\n\r\nabc'
    headers = {"Content-Type": "multipart/form-data; boundary=x", **OWN}
    response = raw.post("/api/v1/scans", content=body, headers=headers)
    assert response.status_code == 400 and "broke off" in response.json()["error"]


def test_a_zip_bomb(raw):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("a.dcm", bytes(200 * 2**20))
    assert len(packed.getvalue()) < 2**20
    response = upload(raw, "a.zip", packed.getvalue())
    assert response.status_code == 422 and "Nothing was unpacked" in response.json()["error"]
    says_nothing_of_the_machine(response)


def test_a_header_that_names_a_file_of_the_server(raw, tmp_path):
    (tmp_path / "secret.raw").write_bytes(bytes(64))
    field = f"data file: {tmp_path / 'secret.raw'}\n"
    nrrd = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n{}\n\n"
    meta = "ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\nElementDataFile = {}\n"
    for name, content in (
        *(("a.nrrd", nrrd.format(field)), ("a.nrrd", nrrd.format(field.replace("data file: ", "Data File:")))),
        *(("a.mha", meta.format(tmp_path / "secret.raw")), ("a.mha", meta.format("LIST"))),
        *(("a.mhd", meta.format("a.raw")), ("a.nhdr", nrrd.format(field)), ("a.hdr", "")),
    ):
        response = upload(raw, name, content.encode())
        assert response.status_code in (400, 422), name
        assert "save " in response.json()["error"]
        says_nothing_of_the_machine(response, "secret")


def test_a_script_in_a_dicom_description_stays_text(client, tmp_path):
    script = "<script>alert(1)</script>"
    write_dicom_series(tmp_path / "a", np.zeros((4, 8, 8), np.int16), SeriesDescription=script, PatientName="Doe^Jane")
    scan = client.upload(tmp_path / "a")
    assert scan.series[0].description == script
    response = httpx.get(f"{client.url}/api/v1/models")
    assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("name", ["a.svg", "a.html", "a.dcm", "a.nii"])
def test_an_svg_is_no_scan(raw, name):
    response = upload(raw, name, b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>')
    assert response.status_code == 422
    says_nothing_of_the_machine(response)
    assert "<script" not in response.text


# Limits


def test_a_user_has_so_many_scans_and_jobs(tmp_path, hippocampus):
    from stunet.serve.answers import ClassAnswer, ModelAnswer, ScanAnswer

    settings = ServerSettings(tmp_path / "data", limits=Limits(jobs_of_one_user=1, scans_of_one_user=1))
    app = make_app(settings)
    service, http = app.state.service, TestClient(app, base_url="http://localhost", headers=OWN)
    service.__dict__["models"] = [ModelAnswer("m", "", "CT", True, [ClassAnswer(1, "a", "", "#000000")])]
    service.scans.add("s", "this machine", tmp_path, ScanAnswer("s", "image", [1, 1, 1], [1, 1, 1], 1))
    assert http.post("/api/v1/jobs", json={"scan": "s", "model": "m"}).status_code == 201
    assert http.post("/api/v1/jobs", json={"scan": "s", "model": "m"}).status_code == 429
    assert upload(http, "a.nii", image_bytes()).status_code == 429
    assert http.delete("/api/v1/scans/s").status_code == 409


def test_nothing_of_a_patient_is_logged(server, client, tmp_path):
    write_dicom_series(tmp_path / "Doe^Jane", np.zeros((4, 8, 8), np.int16), PatientName="Doe^Jane")
    client.upload(tmp_path / "Doe^Jane")
    with pytest.raises(ServerError):
        (tmp_path / "Doe.nii.gz").write_bytes(b"x")
        client.upload(tmp_path / "Doe.nii.gz")
    assert "Doe" not in server.said


def test_an_internal_error_says_nothing(strict, monkeypatch, caplog):
    http = TestClient(strict.app, base_url="http://localhost", raise_server_exceptions=False)
    jobs = strict.app.state.service.jobs
    monkeypatch.setattr(jobs, "of", lambda owner: {}["/data/" + "Doe"])
    response = http.get("/api/v1/jobs", headers={"Authorization": f"Bearer {ANNA}"})
    assert response.status_code == 500 and is_careful(response.headers)
    assert response.headers["cache-control"] == "no-store"
    assert response.json() == {"error": "The server met an internal error. Its log says where."}
    assert "KeyError" in caplog.text and "/data/Doe" not in caplog.text


def test_a_sentence_names_no_folder_of_the_server(strict, monkeypatch):
    http = TestClient(strict.app, base_url="http://localhost")
    service = strict.app.state.service

    def fail(owner):
        raise OutputError(f"{service.settings.data / 'jobs/x/a.nii.gz'}: cannot be written (No space left on device).")

    monkeypatch.setattr(service.jobs, "of", fail)
    response = http.get("/api/v1/jobs", headers={"Authorization": f"Bearer {ANNA}"})
    assert response.json() == {"error": "The scan: cannot be written (No space left on device)."}


def test_the_client_says_when_versions_differ(monkeypatch, server, caplog):
    import stunet

    monkeypatch.setattr(stunet, "__version__", "9.9.9")
    with Client(server.url):
        assert "runs stunet" in caplog.text and "9.9.9" in caplog.text
    monkeypatch.setattr("stunet.serve.client.API_VERSION", 99)
    with pytest.raises(ServerError, match="install the same version on both"):
        Client(server.url)
