"""The scans that users uploaded, and what was found in each."""

import json
import secrets
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from stunet.serve.answers import ScanAnswer, SeriesAnswer
from stunet.serve.database import Database
from stunet.serve.refusal import nothing_there


def new_id() -> str:
    """A name that cannot be guessed: 24 random bytes."""
    return secrets.token_urlsafe(24)


@dataclass(frozen=True)
class StoredScan:
    """A scan.

    Attributes:
        id: its name.
        owner: whose it is.
        created: seconds since 1970.
        path: what a reader takes, a file or a folder.
        answer: what was found in it.
    """

    id: str
    owner: str
    created: float
    path: Path
    answer: ScanAnswer


class ScanTable:
    """The table `scans`."""

    def __init__(self, database: Database):
        self._database = database

    def add(self, scan: str, owner: str, path: Path, answer: ScanAnswer) -> None:
        """Keep a scan."""
        content = json.dumps(asdict(answer))
        self._database.change(
            "INSERT INTO scans VALUES (?, ?, ?, ?, ?)", (scan, owner, time.time(), str(path), content)
        )

    def get(self, scan: str, owner: str) -> StoredScan:
        """A scan of a user.

        Raises:
            RefusedError: there is none of that name, or it is another user's.
        """
        for row in self._database.rows("SELECT * FROM scans WHERE id = ? AND owner = ?", (scan, owner)):
            return StoredScan(row["id"], row["owner"], row["created"], Path(row["path"]), _answer(row["content"]))
        raise nothing_there("scan")

    def count(self, owner: str) -> int:
        """How many a user has."""
        return int(self._database.rows("SELECT COUNT(*) FROM scans WHERE owner = ?", (owner,))[0][0])

    def remove(self, scan: str) -> None:
        """Forget a scan."""
        self._database.change("DELETE FROM scans WHERE id = ?", (scan,))

    def ids(self) -> set[str]:
        """All names."""
        return {row["id"] for row in self._database.rows("SELECT id FROM scans")}

    def older_than(self, moment: float) -> list[str]:
        """Scans that were uploaded before a moment and that no job uses that is younger."""
        statement = (
            "SELECT id FROM scans WHERE created < ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.scan = scans.id)"
        )
        return [row["id"] for row in self._database.rows(statement, (moment,))]


def _answer(content: str) -> ScanAnswer:
    fields = json.loads(content)
    return ScanAnswer(**{**fields, "series": [SeriesAnswer(**one) for one in fields["series"]]})
