"""Talk to a server of stunet. Needs neither torch nor the web framework; httpx is enough.

```python
    client = Client("http://127.0.0.1:8000")
    job = client.submit(client.upload("ct.nii.gz"), "base")
client.wait(job)
client.save(job, "labels.nii.gz")
```
"""

import json
import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

from stunet.errors import FileError, UserError
from stunet.files import replacing
from stunet.serve.answers import (
    API_VERSION,
    FINAL_STATES,
    ClassAnswer,
    ClassScore,
    Health,
    JobAnswer,
    ModelAnswer,
    ScanAnswer,
    SeriesAnswer,
    StructureAnswer,
)
from stunet.serve.connection import Connection, ServerError

logger = logging.getLogger(__name__)

SUFFIX_OF_FORMAT = {
    "nifti": ".nii.gz",
    "nrrd": ".nrrd",
    "seg.nrrd": ".seg.nrrd",
    "dicom-seg": ".dcm",
    "rtstruct": ".rtstruct.dcm",
    "csv": ".csv",
    "stl": ".stl",
    "glb": ".glb",
    "html": ".html",
    "pdf": ".pdf",
}
"""What a result's name ends in, where `save` is to know the format by it."""


class Client:
    """A server, as seen from Python. Use it as a context manager, or call `close`.

    Args:
        url: such as "http://127.0.0.1:8000".
        token: of the user; None for a server that needs none.
        certificate: file with the certificate of the authority that signed the server's; None for the usual ones.

    Raises:
        UserError: httpx is not installed, no server answers there, or it is of another version.
    """

    def __init__(self, url: str, token: str | None = None, certificate: str | Path | None = None):
        self.url = url.rstrip("/")
        self._line = Connection(self.url, token, certificate)
        self._require_same_version()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._line.close()

    def health(self) -> Health:
        """That the server answers, and its version."""
        return Health(**self._line.json("GET", "/health"))

    def models(self) -> list[ModelAnswer]:
        """The models that jobs may name."""
        return [
            ModelAnswer(**{**one, "classes": [ClassAnswer(**each) for each in one["classes"]]})
            for one in self._line.json("GET", "/models")
        ]

    def upload(self, scan: str | Path | Sequence[str | Path]) -> ScanAnswer:
        """Send a scan.

        Args:
            scan: an image, a zip or a folder of DICOM, or a list of images, the channels of one scan.

        Raises:
            UserError: no such file, or the server refuses it.
        """
        paths = [Path(scan)] if isinstance(scan, str | Path) else [Path(one) for one in scan]
        for path in paths:
            if not path.exists():
                raise FileError(f"{path}: no such file or folder.")
        with ExitStack() as stack:
            sent = [stack.enter_context(_zipped(path)) if path.is_dir() else path for path in paths]
            files = [("file", (path.name, stack.enter_context(path.open("rb")))) for path in sent]
            return _scan(self._line.json("POST", "/scans", files=files))

    def submit(
        self,
        scan: ScanAnswer | str | None,
        model: str,
        *,
        path: str | None = None,
        dicomweb: str | None = None,
        series: int | None = None,
        classes: Sequence[str] = (),
        mirror: bool = False,
    ) -> JobAnswer:
        """Ask for a segmentation.

        Args:
            scan: what `upload` gave, or its name; None with `path` or `dicomweb`.
            model: its name.
            path: a file or folder of the server, where it allows it.
            dicomweb: the address of a DICOMweb series, where the server allows it.
            series: number of a DICOM series; None for the only or plainly best.
            classes: the only structures to label; empty for all.
            mirror: average over mirrored copies.

        Raises:
            UserError: the server refuses it.
        """
        order = {
            "scan": scan.scan if isinstance(scan, ScanAnswer) else scan,
            "path": path,
            "dicomweb": dicomweb,
            "series": series,
            "model": model,
            "classes": list(classes) or None,
            "augment_mirror": mirror,
        }
        return JobAnswer(**self._line.json("POST", "/jobs", json=order))

    def jobs(self) -> list[JobAnswer]:
        """Your jobs, the newest first."""
        return [JobAnswer(**one) for one in self._line.json("GET", "/jobs")]

    def job(self, job: JobAnswer | str) -> JobAnswer:
        """A job as it is now."""
        return JobAnswer(**self._line.json("GET", f"/jobs/{_name(job)}"))

    def follow(self, job: JobAnswer | str) -> Iterator[JobAnswer]:
        """A job at each change, until it is over."""
        with self._line.stream(f"/jobs/{_name(job)}/events") as response:
            for line in response.iter_lines():
                if line.startswith("data: "):
                    yield JobAnswer(**json.loads(line.removeprefix("data: ")))

    def wait(self, job: JobAnswer | str, on_change: Callable[[JobAnswer], None] | None = None) -> JobAnswer:
        """Wait until a job is done.

        Args:
            job: which.
            on_change: called with the job at each change.

        Raises:
            UserError: it failed or was cancelled, or the server ended.
        """
        last = None
        for last in self.follow(job):
            if on_change is not None:
                on_change(last)
        if last is None or last.state not in FINAL_STATES:
            raise ServerError(f"{self.url}: the server ended. It runs the job again when it is back.")
        if last.state != "done":
            raise ServerError(last.error or f"The job was {last.state}.")
        return last

    def cancel(self, job: JobAnswer | str) -> JobAnswer:
        """End a job that waits or runs."""
        return JobAnswer(**self._line.json("POST", f"/jobs/{_name(job)}/cancel"))

    def delete(self, job: JobAnswer | str) -> None:
        """Erase a job and its results."""
        self._line.json("DELETE", f"/jobs/{_name(job)}")

    def delete_scan(self, scan: ScanAnswer | str) -> None:
        """Erase a scan."""
        self._line.json("DELETE", f"/scans/{scan if isinstance(scan, str) else scan.scan}")

    def statistics(self, job: JobAnswer | str) -> list[StructureAnswer]:
        """What was found: volumes, mean values, places."""
        return [StructureAnswer(**one) for one in self._line.json("GET", f"/jobs/{_name(job)}/statistics")]

    def record(self, job: JobAnswer | str) -> dict[str, Any]:
        """How a result came about: versions, machine, model, settings, seconds, the meaning of the labels."""
        record: dict[str, Any] = self._line.json("GET", f"/jobs/{_name(job)}/record")
        return record

    def compare(self, job: JobAnswer | str, reference: str | Path) -> list[ClassScore]:
        """How well a result agrees with a label map on the same grid, with the same integers."""
        path = Path(reference)
        with path.open("rb") as file:
            answer = self._line.json("POST", f"/jobs/{_name(job)}/reference", files=[("file", (path.name, file))])
        return [ClassScore(**one) for one in answer["classes"]]

    def save(
        self, job: JobAnswer | str, path: str | Path, *, format: str | None = None, classes: Sequence[str] = ()
    ) -> Path:
        """Write a result to a file, which appears only when it is whole.

        Args:
            job: one that is done.
            path: where.
            format: a name of the API, such as "dicom-seg-binary"; by default what the name ends in.
            classes: the only structures; empty for all.

        Raises:
            UserError: an unknown ending, or the server cannot make the file.
        """
        path = Path(path)
        kind = format or _format_of(path)
        chosen = {"classes": ",".join(classes)} if classes else None
        result = self._line.stream(f"/jobs/{_name(job)}/results/{kind}", chosen)
        with result as response, replacing(path) as temporary, temporary.open("wb") as file:
            file.writelines(response.iter_bytes())
        return path

    def _require_same_version(self) -> None:
        from stunet import __version__

        there = self.health()
        if there.api != API_VERSION:
            raise ServerError(
                f"{self.url} runs stunet {there.version}, which this stunet {__version__} cannot talk to; install the "
                "same version on both."
            )
        if there.version != __version__:
            logger.warning(
                "%s runs stunet %s, and this is %s; results may differ.", self.url, there.version, __version__
            )


def _name(job: JobAnswer | str) -> str:
    return job if isinstance(job, str) else job.job


def _scan(fields: dict[str, Any]) -> ScanAnswer:
    return ScanAnswer(**{**fields, "series": [SeriesAnswer(**one) for one in fields["series"]]})


def _format_of(path: Path) -> str:
    fitting = [(suffix, name) for name, suffix in SUFFIX_OF_FORMAT.items() if path.name.lower().endswith(suffix)]
    if not fitting:
        known = ", ".join(SUFFIX_OF_FORMAT.values())
        raise UserError(f"{path}: unknown ending. Use one of {known}, or give `format`.")
    return max(fitting, key=lambda pair: len(pair[0]))[1]


@contextmanager
def _zipped(folder: Path) -> Iterator[Path]:
    """All files of a folder as one file, not compressed: scans hardly are, and what is the server unpacks slowly."""
    with TemporaryDirectory(prefix="stunet") as temporary:
        path = Path(temporary) / "scan.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for file in sorted(one for one in folder.rglob("*") if one.is_file()):
                archive.write(file, file.relative_to(folder).as_posix())
        yield path
