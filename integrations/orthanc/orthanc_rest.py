"""What the poller asks of Orthanc, over its REST interface. Nothing here tells more than ids of Orthanc."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

CHANGES_AT_ONCE = 100

SECONDS = httpx.Timeout(300.0, connect=10.0)
"""An archive of a study takes Orthanc its time."""


class OrthancError(Exception):
    """Orthanc cannot be reached, or refuses; the message is a sentence without patient data."""


@dataclass(frozen=True)
class Changes:
    """What happened in Orthanc.

    Attributes:
        stable_studies: Orthanc's ids of studies to which nothing was added for a while, oldest first.
        last: the number of the last change, from which to ask on.
        is_all: whether there is nothing more.
    """

    stable_studies: list[str]
    last: int
    is_all: bool


class Orthanc:
    """A server of Orthanc.

    Args:
        url: such as "http://127.0.0.1:8042".
        user: for its password; empty where it needs none.
        password: of the user.
    """

    def __init__(self, url: str, user: str = "", password: str = ""):
        auth = httpx.BasicAuth(user.encode(), password.encode()) if user else None
        self._http = httpx.Client(base_url=url.rstrip("/"), auth=auth, timeout=SECONDS)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def last_change(self) -> int:
        """The number of the newest change."""
        return int(self._json("/changes", "last")["Last"])

    def changes(self, since: int) -> Changes:
        """What happened after a change."""
        answer = self._json("/changes", f"since={since}&limit={CHANGES_AT_ONCE}")
        studies = [str(one["ID"]) for one in answer["Changes"] if one["ChangeType"] == "StableStudy"]
        return Changes(studies, int(answer["Last"]), bool(answer["Done"]))

    def series_of(self, study: str) -> dict[str, str]:
        """The modality of each series of a study, by Orthanc's ids; empty where the study is gone."""
        try:
            series = self._json(f"/studies/{study}/series")
        except OrthancError:
            if self._is_gone(study):
                return {}
            raise
        return {str(one["ID"]): str(one["MainDicomTags"].get("Modality", "")) for one in series}

    def save_archive(self, study: str, path: Path) -> None:
        """Write all files of a study to a zip."""
        with self._asked("GET", f"/studies/{study}/archive") as answer, path.open("wb") as file:
            file.writelines(answer.iter_bytes())

    def store(self, path: Path) -> None:
        """Store a DICOM file. One that is there already stays as it is."""
        with self._asked("POST", "/instances", path.read_bytes()):
            pass

    def _is_gone(self, study: str) -> bool:
        try:
            return self._http.get(f"/studies/{study}").status_code == httpx.codes.NOT_FOUND
        except httpx.HTTPError:
            return False

    def _json(self, path: str, query: str = "") -> Any:
        with self._asked("GET", f"{path}?{query}" if query else path) as answer:
            answer.read()
            return answer.json()

    @contextmanager
    def _asked(self, method: str, path: str, content: bytes | None = None) -> Iterator[httpx.Response]:
        try:
            with self._http.stream(method, path, content=content) as answer:
                if not answer.is_success:
                    raise OrthancError(f"Orthanc refuses {method} {path} (HTTP {answer.status_code}).")
                yield answer
        except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
            raise OrthancError(f"Orthanc cannot be asked for {path} ({type(error).__name__}).") from error
