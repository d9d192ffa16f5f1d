"""The SQLite database of a server: its tables, and one connection that all threads share."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

from stunet.errors import FileError

SCHEMA_VERSION = 1
"""Rises when the tables change."""

SCHEMA = """
CREATE TABLE scans (
    id TEXT PRIMARY KEY, owner TEXT NOT NULL, created REAL NOT NULL, path TEXT NOT NULL, content TEXT NOT NULL
) STRICT;
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL,
    scan TEXT NOT NULL,
    created REAL NOT NULL,
    model TEXT NOT NULL,
    series INTEGER,
    classes TEXT NOT NULL,
    mirror INTEGER NOT NULL,
    state TEXT NOT NULL,
    stage TEXT NOT NULL,
    window INTEGER NOT NULL DEFAULT 0,
    windows INTEGER NOT NULL DEFAULT 0,
    progress REAL NOT NULL DEFAULT 0,
    seconds_left REAL,
    error TEXT,
    warnings TEXT NOT NULL DEFAULT '[]',
    attempts INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX jobs_by_state ON jobs (state, number);
CREATE TABLE sessions (
    id TEXT PRIMARY KEY, token TEXT NOT NULL, created REAL NOT NULL
) STRICT;
"""


class Database:
    """One connection, used by one thread at a time. What a statement changed is kept once it returns.

    Args:
        path: the file; made where missing.

    Raises:
        UserError: the file is of another version, damaged, or cannot be written.
    """

    def __init__(self, path: Path):
        self._lock = Lock()
        try:
            self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
            path.chmod(0o600)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            (version,) = self._connection.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._connection.executescript(f"BEGIN; {SCHEMA} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
        except (sqlite3.Error, OSError) as error:
            raise FileError(f"{path}: the database cannot be opened ({error}); move it away to begin anew.") from error
        if version not in (0, SCHEMA_VERSION):
            raise FileError(f"{path}: was made by another version of stunet; move it away to begin anew.")

    def rows(self, statement: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """What a statement selects, or returns of what it changed."""
        with self._lock:
            return self._connection.execute(statement, values).fetchall()

    def change(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Carry out a statement; how many rows it changed."""
        with self._lock:
            return self._connection.execute(statement, values).rowcount

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._connection.close()
