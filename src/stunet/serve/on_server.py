"""Cases of a request are segmented by a server; all that is written is written here, as without one.

Only labels come back. Statistics, pictures and DICOM results are made on this machine from the scan that lies here, so
the same command leaves the same files. The server forgets each scan as soon as its labels have come.
"""

import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from stunet.batch.find_scans import Case, OneFile
from stunet.batch.outputs import Outputs, write_outputs
from stunet.batch.predict_cases import CaseResult
from stunet.errors import FileError, UnknownNameError, UserError
from stunet.files import made_folder
from stunet.imaging.formats.registry import read_labels
from stunet.imaging.scan import as_volume
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation
from stunet.serve.answers import JobAnswer, ModelAnswer, ScanAnswer
from stunet.serve.client import Client
from stunet.serve.connection import ServerError
from stunet.serve.saved_result import meaning_of

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.series import Series
    from stunet.inference.sliding import OnWindow


RUN_FIELDS = ("versions", "machine", "backend", "model", "settings")
"""What of a record holds for all scans of a run."""


class OnServer:
    """Segments on a server; see `stunet.batch.segmenter.Segmenter`.

    Args:
        client: of the server.
        model: its name there.
        classes: the only structures; empty for all.
        mirror: average over mirrored copies.
    """

    def __init__(self, client: Client, model: str, classes: Sequence[str], mirror: bool):
        self._client, self._model, self._classes, self._mirror = client, model, classes, mirror
        self._record: dict[str, Any] = {}

    @property
    def channels(self) -> Sequence[str]:
        """The model's.

        Raises:
            UserError: the server has no such model.
        """
        return self._offered.channels

    def run_record(self) -> dict[str, Any]:
        """The server's; empty before a case is done."""
        return {name: self._record[name] for name in RUN_FIELDS if self._record}

    def results(
        self,
        destinations: Mapping[Case, Path],
        outputs: Outputs,
        resume: bool,
        on_window: "OnWindow | None",
        keep_going: bool,
    ) -> Iterator[CaseResult]:
        """One case after the other.

        Raises:
            UserError: as `stunet.batch.predict_cases.predict_cases`; also that cases cannot be skipped.
        """
        if resume:
            raise UserError("--resume can't be used with --server. Name the scans that are left.")
        for case, place in destinations.items():
            try:
                yield self._result(case, place, outputs, on_window)
            except UserError as error:
                if not keep_going:
                    raise
                yield CaseResult(case, error=str(error))

    @cached_property
    def _offered(self) -> ModelAnswer:
        models = {model.name: model for model in self._client.models()}
        if self._model not in models:
            raise UnknownNameError.of("model", self._model, models)
        return models[self._model]

    def _result(self, case: Case, place: Path, outputs: Outputs, on_window: "OnWindow | None") -> CaseResult:
        if case.problem is not None:
            raise FileError(case.problem)
        scan = as_volume(case.files if len(case.files) > 1 else case.files[0])
        outputs.require_scan(place, scan)
        segmentation = self._segmented(case.files, scan, on_window)
        made_folder(place.parent)
        return CaseResult(case, place, segmentation, tuple(write_outputs(segmentation, place, outputs, case.name)))

    def _segmented(self, files: Sequence[OneFile], scan: Volume, on_window: "OnWindow | None") -> Segmentation:
        def told(job: JobAnswer) -> None:
            """Pass the windows of the job on."""
            if on_window is not None and job.windows:
                on_window(job.window, job.windows)

        with self._uploaded(files) as (answer, series), self._submitted(answer, series) as job:
            self._client.wait(job, told)
            with TemporaryDirectory(prefix="stunet") as folder:
                labels = read_labels(self._client.save(job, Path(folder) / "labels.nii.gz")).array[0]
            self._record = self._client.record(job)
        if labels.shape != scan.shape:
            raise ServerError(f"{scan.source}: the server read another scan; install the same version on both.")
        return Segmentation(labels=labels, scan=scan, **meaning_of(self._record))

    @contextmanager
    def _submitted(self, scan: ScanAnswer, series: int | None) -> Iterator[JobAnswer]:
        """A job, which is erased, and so ended, afterwards."""
        job = self._client.submit(scan, self._model, series=series, classes=self._classes, mirror=self._mirror)
        try:
            yield job
        finally:
            with suppress(ServerError):
                self._client.delete(job)

    @contextmanager
    def _uploaded(self, files: Sequence[OneFile]) -> Iterator[tuple[ScanAnswer, int | None]]:
        """A scan on the server and the number of its series there; it is erased afterwards."""
        scan, number = self._upload(files)
        try:
            yield scan, number
        finally:
            with suppress(ServerError):
                self._client.delete_scan(scan)

    def _upload(self, files: Sequence[OneFile]) -> tuple[ScanAnswer, int | None]:
        if all(isinstance(file, Path) for file in files):
            return self._client.upload(cast(Sequence[Path], files)), None
        series = cast("Series", files[0])
        with _files_of(series) as archive:
            scan = self._client.upload(archive)
        if len(scan.series) == 1:
            return scan, None
        self._client.delete_scan(scan)  # its files hold other volumes, too: they are numbered as they are here
        return self._client.upload(series.where), series.number


@contextmanager
def _files_of(series: "Series") -> Iterator[Path]:
    """A zip with the files of one series, without their names."""
    sources = {(one.source.path, one.source.member): one.source for one in series.stack.slices}
    with TemporaryDirectory(prefix="stunet") as folder:
        path = Path(folder) / "series.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
            for number, source in enumerate(sources.values(), start=1):
                with source.open() as file:
                    archive.writestr(f"{number:06d}.dcm", file.read())
        yield path
