"""The jobs: request, progress and result of each. They survive a restart of the server."""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from sqlite3 import Row
from typing import Any, cast

from stunet.serve.answers import FINAL_STATES, JobAnswer, Stage, State
from stunet.serve.database import Database
from stunet.serve.refusal import nothing_there

_OPEN = "state IN ('queued', 'running')"


@dataclass(frozen=True)
class JobRequest:
    """What to segment, and how.

    Attributes:
        scan: its name.
        series: number of a DICOM series; None for the only or plainly best.
        model: its name.
        classes: the only structures that are labelled; empty for all.
        mirror: average over mirrored copies.
    """

    scan: str
    series: int | None
    model: str
    classes: tuple[str, ...] = ()
    mirror: bool = False


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    Attributes:
        stage: what it is doing.
        progress: 0 to 1.
        window: windows that are done.
        windows: windows in all; 0 while it is not known.
        seconds_left: about how long it still takes; None while it is not known.
    """

    stage: Stage
    progress: float
    window: int = 0
    windows: int = 0
    seconds_left: float | None = None


@dataclass(frozen=True)
class Job:
    """A job as it is now.

    Attributes:
        id: its name.
        owner: whose it is.
        created: seconds since 1970.
        request: what is asked.
        state: see `stunet.serve.answers.State`.
        progress: how far it is.
        error: why it failed.
        warnings: sentences for users of the labels.
        attempts: number of starts.
    """

    id: str
    owner: str
    created: float
    request: JobRequest
    state: State
    progress: Progress
    error: str | None
    warnings: tuple[str, ...]
    attempts: int

    @property
    def is_over(self) -> bool:
        """Whether it will not change any more."""
        return self.state in FINAL_STATES

    def answer(self, ahead: int, kept_hours: float) -> JobAnswer:
        """The job as the API shows it."""
        left = self.progress.seconds_left
        return JobAnswer(
            job=self.id,
            scan=self.request.scan,
            state=self.state,
            stage=self.progress.stage,
            ahead=ahead,
            window=self.progress.window,
            windows=self.progress.windows,
            progress=round(self.progress.progress, 4),
            seconds_left=None if left is None else round(left, 1),
            error=self.error,
            warnings=list(self.warnings),
            created=_iso(self.created),
            erased_at=_iso(self.created + 3600 * kept_hours),
            model=self.request.model,
            series=self.request.series,
        )


class JobTable:
    """The table `jobs`. Each change names the state that it starts from, so that two changes cannot conflict."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, job: str, owner: str, request: JobRequest) -> Job:
        """Put a job at the end of the queue."""
        values = (
            *(job, owner, request.scan, time.time(), request.model, request.series),
            *(json.dumps(request.classes), int(request.mirror)),
        )
        self._database.change(
            "INSERT INTO jobs (id, owner, scan, created, model, series, classes, mirror, state, stage) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 'queued', 'queued')",
            values,
        )
        return self.get(job, owner)

    def get(self, job: str, owner: str) -> Job:
        """A job of a user.

        Raises:
            RefusedError: there is none of that name, or it is another user's.
        """
        for row in self._database.rows("SELECT * FROM jobs WHERE id = ? AND owner = ?", (job, owner)):
            return _job(row)
        raise nothing_there("job")

    def of(self, owner: str) -> list[Job]:
        """All jobs of a user, the newest first."""
        rows = self._database.rows("SELECT * FROM jobs WHERE owner = ? ORDER BY number DESC", (owner,))
        return [_job(row) for row in rows]

    def using(self, scan: str) -> list[Job]:
        """All jobs with a scan."""
        return [_job(row) for row in self._database.rows("SELECT * FROM jobs WHERE scan = ?", (scan,))]

    def ahead(self, job: str) -> int:
        """How many jobs run before one that waits; 0 for any other."""
        statement = (
            f"SELECT COUNT(*) FROM jobs, (SELECT number AS own, state AS mine FROM jobs WHERE id = ?) "
            f"WHERE mine = 'queued' AND number < own AND {_OPEN}"
        )
        return int(self._database.rows(statement, (job,))[0][0])

    def queued(self) -> int:
        """How many wait."""
        return int(self._database.rows("SELECT COUNT(*) FROM jobs WHERE state = 'queued'")[0][0])

    def open_of(self, owner: str) -> int:
        """How many of a user wait or run."""
        return int(self._database.rows(f"SELECT COUNT(*) FROM jobs WHERE owner = ? AND {_OPEN}", (owner,))[0][0])

    def ids(self) -> set[str]:
        """All names."""
        return {row["id"] for row in self._database.rows("SELECT id FROM jobs")}

    def begin_next(self) -> Job | None:
        """Start the first job of the queue; None if no job waits."""
        rows = self._database.rows(
            "UPDATE jobs SET state = 'running', stage = 'reading', attempts = attempts + 1 "
            "WHERE number = (SELECT MIN(number) FROM jobs WHERE state = 'queued') RETURNING *"
        )
        return _job(rows[0]) if rows else None

    def note(self, job: str, now: Progress) -> None:
        """Save the progress of a running job; it never falls."""
        self._database.change(
            "UPDATE jobs SET stage = ?, progress = MAX(progress, ?), window = MAX(window, ?), "
            "windows = MAX(windows, ?), seconds_left = ? WHERE id = ? AND state = 'running'",
            (now.stage, now.progress, now.window, now.windows, now.seconds_left, job),
        )

    def finish(self, job: str, warnings: Sequence[str]) -> bool:
        """Mark a running job as done. Returns whether it was still running."""
        return bool(
            self._database.change(
                "UPDATE jobs SET state = 'done', stage = 'done', progress = 1, seconds_left = 0, warnings = ? "
                "WHERE id = ? AND state = 'running'",
                (json.dumps(list(warnings)), job),
            )
        )

    def fail(self, job: str, sentence: str) -> None:
        """Mark a job as failed."""
        self._database.change(
            f"UPDATE jobs SET state = 'failed', seconds_left = NULL, error = ? WHERE id = ? AND {_OPEN}",
            (sentence, job),
        )

    def cancel(self, job: str) -> bool:
        """Cancel a job that waits or runs. Returns whether it did."""
        return bool(
            self._database.change(
                f"UPDATE jobs SET state = 'cancelled', seconds_left = NULL WHERE id = ? AND {_OPEN}", (job,)
            )
        )

    def is_running(self, job: str) -> bool:
        """Whether a job runs, and was not cancelled."""
        return bool(self._database.rows("SELECT 1 FROM jobs WHERE id = ? AND state = 'running'", (job,)))

    def is_done(self, job: str) -> bool:
        """Whether a job exists and has a result."""
        return bool(self._database.rows("SELECT 1 FROM jobs WHERE id = ? AND state = 'done'", (job,)))

    def requeue(self, most_attempts: int) -> None:
        """Put jobs that ran when the server ended back into the queue. Jobs that were tried too often fail."""
        sentence = f"The server was ended {most_attempts} times while it ran this job, so it is not tried again."
        self._database.change(
            "UPDATE jobs SET state = 'failed', error = ? WHERE state = 'running' AND attempts >= ?",
            (sentence, most_attempts),
        )
        self._database.change("UPDATE jobs SET state = 'queued', stage = 'queued' WHERE state = 'running'")

    def remove(self, job: str) -> None:
        """Forget a job."""
        self._database.change("DELETE FROM jobs WHERE id = ?", (job,))

    def older_than(self, moment: float) -> list[str]:
        """Finished jobs that were submitted before a moment."""
        statement = f"SELECT id FROM jobs WHERE created < ? AND NOT {_OPEN}"
        return [row["id"] for row in self._database.rows(statement, (moment,))]


def _job(row: Row) -> Job:
    request = JobRequest(
        row["scan"], row["series"], row["model"], tuple(json.loads(row["classes"])), bool(row["mirror"])
    )
    progress = Progress(row["stage"], row["progress"], row["window"], row["windows"], row["seconds_left"])
    warnings = tuple(cast(list[Any], json.loads(row["warnings"])))
    state = cast(State, row["state"])
    return Job(
        row["id"], row["owner"], row["created"], request, state, progress, row["error"], warnings, row["attempts"]
    )


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat(timespec="seconds")
