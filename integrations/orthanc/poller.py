"""Studies that arrive in Orthanc are segmented by a server of stunet, and the results stored in Orthanc.

Each study is segmented once it is stable (nothing was added for a while), and again only when another series of images
came. What failed is tried again, later and later. The log has Orthanc's ids and nothing of a patient.
"""

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from orthanc_rest import Orthanc, OrthancError
from progress_file import Waiting, read_progress, write_progress

from stunet.errors import UserError
from stunet.serve.client import Client
from stunet.serve.connection import ServerError

logger = logging.getLogger("orthanc_poller")

MODALITIES = ("CT", "MR", "PT", "NM")
"""Of series that may be images of a scan."""


@dataclass(frozen=True)
class Order:
    """What is done with each study.

    Attributes:
        model: its name on the server.
        classes: the only structures; empty for all.
        format: of the result: "dicom-seg", "dicom-seg-binary" or "rtstruct".
        modality: of series that are a reason to segment a study, such as "CT".
        attempts: before a study is given up.
        first_wait: seconds before the second attempt; each later wait is twice as long.
    """

    model: str
    classes: tuple[str, ...] = ()
    format: str = "dicom-seg"
    modality: str = "CT"
    attempts: int = 6
    first_wait: float = 30.0


class NothingToSegmentError(Exception):
    """No series of the study can be segmented, and trying again would not help."""


class Poller:
    """Looks into Orthanc, and works off what came.

    Args:
        orthanc: where studies arrive.
        connect: gives a client of the server, a new one for each study.
        order: what is done.
        folder: for the progress file, and results that are not stored yet.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        orthanc: Orthanc,
        connect: Callable[[], Client],
        order: Order,
        folder: Path,
        clock: Callable[[], float] = time.time,
    ):
        self._orthanc, self._connect, self._order, self._folder, self._clock = orthanc, connect, order, folder, clock
        self._file = folder / "progress.json"
        self.progress = read_progress(self._file)

    def begin(self, all_studies: bool) -> None:
        """Where nothing was looked at before: begin now, or with the first study that Orthanc has."""
        if self.progress.last_change is None:
            self.progress.last_change = 0 if all_studies else self._orthanc.last_change()
            self._save()

    def look(self) -> None:
        """Note which studies came. An Orthanc that was emptied counts its changes from 1 again.

        Raises:
            OrthancError: Orthanc cannot be asked.
        """
        if self._orthanc.last_change() < (self.progress.last_change or 0):
            logger.warning("Orthanc was emptied, or is another one. All that it has is new.")
            self.progress.last_change = 0
        is_all = False
        while not is_all:
            changes = self._orthanc.changes(self.progress.last_change or 0)
            for study in changes.stable_studies:
                self.progress.waiting.setdefault(study, Waiting())
            self.progress.last_change, is_all = changes.last, changes.is_all
            self._save()

    def work(self) -> None:
        """Segment what is due, one study after the other."""
        for study in list(self.progress.waiting):
            if self.progress.waiting[study].not_before <= self._clock():
                self._try(study)
                self._save()

    def _try(self, study: str) -> None:
        try:
            series = self._images_of(study)
            if set(series) <= set(self.progress.done.get(study, ())):
                del self.progress.waiting[study]  # it is stable again because our result came
                return
            self._segment(study)
        except NothingToSegmentError as reason:
            logger.warning("Study %s: %s It is left.", study, reason)
        except (OrthancError, ServerError, UserError, OSError) as error:
            if self._try_later(study, error):
                return
            series = self._images_or_none(study)
        else:
            logger.info("Study %s: segmented.", study)
        self.progress.finish(study, series)

    def _images_of(self, study: str) -> list[str]:
        """The series for which the study is segmented."""
        series = self._orthanc.series_of(study)
        return sorted(one for one, modality in series.items() if modality == self._order.modality)

    def _images_or_none(self, study: str) -> list[str]:
        with suppress(OrthancError):
            return self._images_of(study)
        return []

    def _try_later(self, study: str, error: Exception) -> bool:
        """Note when a study is tried again; False where it is given up."""
        waiting = self.progress.waiting[study]
        waiting.attempts += 1
        if waiting.attempts >= self._order.attempts:
            logger.error("Study %s: given up after %d attempts: %s", study, waiting.attempts, _without_text(error))
            return False
        wait = self._order.first_wait * 2 ** (waiting.attempts - 1)
        waiting.not_before = self._clock() + wait
        logger.warning("Study %s: %s Tried again in %.0f seconds.", study, _without_text(error), wait)
        return True

    def _segment(self, study: str) -> None:
        """Make the result and store it. One that was made before the poller was ended is stored only."""
        result = self._folder / f"{study}.dcm"
        if not result.exists():
            with TemporaryDirectory(dir=self._folder) as temporary, self._connect() as client:
                archive = Path(temporary) / "study.zip"
                self._orthanc.save_archive(study, archive)
                self._make(client, archive, result)
        self._orthanc.store(result)
        result.unlink()

    def _make(self, client: Client, archive: Path, result: Path) -> None:
        """Let the server segment an archive; it forgets it afterwards."""
        scan = client.upload(archive)
        try:
            if scan.chosen is None:
                raise NothingToSegmentError("no series can be segmented, or several could be meant.")
            job = client.submit(scan, self._order.model, series=scan.chosen, classes=self._order.classes)
            try:
                client.wait(job)
                client.save(job, result, format=self._order.format)
            finally:
                with suppress(ServerError):
                    client.delete(job)
        finally:
            with suppress(ServerError):
                client.delete_scan(scan)

    def _save(self) -> None:
        write_progress(self._file, self.progress)


def _without_text(error: Exception) -> str:
    """What went wrong, without what a server says of files: that may quote them."""
    if isinstance(error, OrthancError):
        return str(error)
    if isinstance(error, ServerError):
        if error.status is None:
            return "the server of stunet cannot be reached, or the segmentation failed."
        return f"the server of stunet refuses (HTTP {error.status})."
    return f"failed ({type(error).__name__})."
