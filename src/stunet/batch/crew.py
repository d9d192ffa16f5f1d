"""The workers of one machine: processes with a model each, replaced when they die, and ended together."""

import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import wait
from time import monotonic

from stunet.allocator import memory_limit
from stunet.batch.ends import ScanEnd
from stunet.batch.member import Entry, Member, Refusal, Report, WorkerOptions, enter
from stunet.batch.settings import BatchFolder
from stunet.batch.signals import noting_signals
from stunet.batch.threads import usual_threads
from stunet.batch.time_limit import TOOK_TOO_LONG
from stunet.errors import UserError

MEMORY_SHARE = 0.9
"""Of the memory that workers may take together."""

GRACE_SECONDS = 60.0
"""For workers to end in, before they are killed."""

WORTHWHILE_SECONDS = 90.0
"""If less work is left at the pace of the first worker, it works alone to the end: two workers on two processors save a
sixth of the time, and take about ten seconds to start (`bench/batch.py`)."""

LEAST_SCANS = 2
"""For each worker. With three scans for two workers, one of these would be idle for the time of a scan."""

MOST_STILLBORN = 3
"""So many workers may die in a row without finishing a scan or failing at one."""


class Crew:
    """Several workers on this machine.

    The first worker works alone, with all threads. After two scans it is known how much memory a worker takes and how
    long a scan, and what backends compile at their first start is in the cache. If enough work is left, others follow,
    as many as are worth it and memory permits. They share the threads, and the first worker is replaced by one with its
    share.

    Args:
        folder: of the batch.
        workers: how many at most.
        options: of all workers together: they share the threads.
        on_scan: called after each scan.
        say: called with sentences on workers.
        peak_memory: the most bytes that a worker of this batch ever had, where that is known already.
        scans: how many are left to segment; None where that is not known.
        entry: what each process does.
        waiting: a worker that has been started already.
    """

    def __init__(
        self,
        folder: BatchFolder,
        workers: int,
        options: WorkerOptions = WorkerOptions(),  # noqa: B008 (frozen)
        on_scan: Callable[[ScanEnd], None] = lambda end: None,
        say: Callable[[str], None] = lambda sentence: None,
        peak_memory: int | None = None,
        scans: int | None = None,
        entry: Entry = enter,
        waiting: Member | None = None,
    ):
        self._folder = folder
        self._wanted = workers
        self._threads = options.threads or usual_threads()
        self._options = replace(options, threads=self._threads)
        self._on_scan = on_scan
        self._say = say
        self._left = scans
        self._entry = entry
        self._waiting = waiting
        self._members: list[Member] = []
        self._leaving: list[Member] = []
        self._done_at: list[float] = []
        self._stillborn = 0
        self._most = 1
        if peak_memory is not None:
            self._grow(peak_memory)

    def run(self) -> None:
        """Work until every scan of the batch is done, failed or set aside.

        Raises:
            UserError: a worker refused to go on, or workers die before they have looked at a scan.
            Stopped: Ctrl-C or SIGTERM came; the workers gave back what they had not finished.
        """
        with noting_signals() as noted:
            try:
                self._hire()
                while self._members and noted.number is None:
                    self._look_after()
            finally:
                self._dismiss()
        noted.raise_stopped()

    def _hire(self) -> None:
        while len(self._members) < self._most:
            self._add_member()

    def _add_member(self) -> None:
        member, self._waiting = self._waiting or Member.start(self._entry), None
        member.assign(self._folder.path, self._options)
        self._members.append(member)

    def _look_after(self) -> None:
        """Wait for news, and replace the dead."""
        wait([*(one.pipe for one in self._members), *(one.process.sentinel for one in self._members)], timeout=1.0)
        for member in list(self._members):
            is_running = member.process.is_alive()  # before its last reports are read
            for report in member.news():
                self._heed(report)
            if not is_running:
                self._part_with(member)

    def _heed(self, report: Report) -> None:
        if isinstance(report, Refusal):
            raise UserError(report.sentence)
        self._on_scan(report)
        if self._left is not None:
            self._left -= 1
        if report.error is not None:  # it shows neither how long a scan takes nor how much memory
            return
        self._done_at.append(monotonic())
        if report.peak_memory is not None and self._most < self._wanted and (workers := self._worthwhile) > 1:
            self._wanted = workers
            self._grow(report.peak_memory)
            self._hire()

    @property
    def _worthwhile(self) -> int:
        """How many workers are worth their start."""
        if len(self._done_at) < 2:
            return 1
        if self._left is None:
            return self._wanted
        pace = (self._done_at[-1] - self._done_at[0]) / (len(self._done_at) - 1)
        return min(self._wanted, self._left // LEAST_SCANS) if pace * self._left >= WORTHWHILE_SECONDS else 1

    def _part_with(self, member: Member) -> None:
        member.process.join()
        member.pipe.close()
        self._members.remove(member)
        if member in self._leaving:
            self._add_member()
            return
        if not member.has_died:
            return
        self._stillborn = 0 if member.reports else self._stillborn + 1
        how = _how(member.process.exitcode)
        if self._stillborn >= MOST_STILLBORN:
            raise UserError(f"{MOST_STILLBORN} workers ended one after the other before they finished a scan ({how}).")
        if member.process.exitcode != TOOK_TOO_LONG:
            self._say(f"A worker ended unexpectedly ({how}). Another takes its place.")
        self._add_member()

    def _grow(self, peak_memory: int) -> None:
        """Have as many workers as memory permits. A network cannot be given other threads once it is compiled."""
        self._most = self._wanted = self._permitted(peak_memory)
        if self._most > 1:
            self._options = replace(self._options, threads=max(1, self._threads // self._most))
            self._leaving = list(self._members)
            for member in self._leaving:
                member.process.terminate()  # it gives back the scan that it has just begun

    def _permitted(self, peak_memory: int) -> int:
        memory = memory_limit()
        if memory is None:
            return self._wanted
        permitted = min(self._wanted, max(1, int(memory * MEMORY_SHARE / peak_memory)))
        if permitted < self._wanted:
            self._say(
                f"{permitted} of {self._wanted} workers: one takes {peak_memory / 2**30:.1f} GiB, and there are "
                f"{memory / 2**30:.1f} GiB."
            )
        return permitted

    def _dismiss(self) -> None:
        """End all workers: they give back what they have not finished."""
        for member in self._members:
            member.process.terminate()
        end = monotonic() + GRACE_SECONDS
        for member in self._members:
            member.process.join(max(0.0, end - monotonic()))
            for report in member.news():
                if isinstance(report, ScanEnd):
                    self._on_scan(report)
            member.kill()
        self._members.clear()


def _how(exit_code: int | None) -> str:
    """How a process ended, in words."""
    if exit_code is not None and exit_code < 0:
        with suppress(ValueError):
            return f"signal {signal.Signals(-exit_code).name}"
    return f"exit code {exit_code}"
