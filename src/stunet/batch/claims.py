"""Which scan a worker takes next, of those that no other worker has."""

import random
from collections.abc import Iterator
from contextlib import suppress
from threading import Event

from stunet.batch.ledger import Ledger, ScanState
from stunet.batch.listing import ListedScan, ScanLists
from stunet.batch.liveness import Watch
from stunet.errors import OutputError

POLL_SECONDS = 2.0
"""Between two looks at what other workers do, when there is nothing else to do."""


class Claims:
    """The scans that one worker claims, and what becomes of them.

    Args:
        ledger: of the batch.
        worker: the name of this one.
        watch: says which other workers have died.
        stop: once it is set, nothing more is claimed.
    """

    def __init__(self, ledger: Ledger, worker: str, watch: Watch, stop: Event):
        self._ledger = ledger
        self._lists = ScanLists(ledger)
        self._worker = worker
        self._watch = watch
        self._stop = stop
        self._held: dict[str, int] = {}

    def fresh(self) -> Iterator[ListedScan]:
        """Claim one scan after the other, of those on which no worker has died.

        Several workers go through them in different orders, so that they seldom want the same.
        """
        self._refresh()
        waiting = [name for name in self._lists.scans if self._is_fresh(self._ledger.state(name))]
        random.Random(self._worker).shuffle(waiting)
        for name in waiting:
            if self._stop.is_set():
                return
            state = self._ledger.state(name)
            if self._is_fresh(state) and self._claim(name, state):
                yield self._lists.scans[name]

    def left_behind(self) -> ListedScan | None:
        """Claim one scan of those that are left, once there is one: what a dead worker had, above all.

        Waits as long as other workers have scans, because they may die.

        Returns:
            A scan, to be segmented alone, so that it is known whose fault it is if the worker dies; None when every
            scan is finished, failed or set aside.
        """
        while not self._stop.is_set():
            self._refresh()
            states = {name: self._ledger.state(name) for name in self._lists.scans}
            self._bury(states)
            for name, state in states.items():
                if state.state == "waiting" and self._claim(name, state):
                    return self._lists.scans[name]
            if all(state.is_final for state in states.values()):
                return None
            self._stop.wait(POLL_SECONDS)
        return None

    def holds(self, name: str) -> bool:
        """Whether the scan is still this worker's, as far as can be seen now."""
        return name in self._held and not self._ledger.has_event(name, self._held[name] + 1)

    def end(self, name: str, event: str, **details: object) -> bool:
        """Say what became of a claimed scan.

        Args:
            name: of the scan.
            event: done, failed or released.
            details: of the event.

        Returns:
            Whether it counts. It does not if this worker was taken for dead and the scan was given to another.

        Raises:
            UserError: it cannot be written.
        """
        claimed = self._held.pop(name, None)
        return claimed is not None and self._ledger.append(name, claimed, event, worker=self._worker, **details)

    def release(self) -> None:
        """Give back all scans that are not finished."""
        for name in list(self._held):
            with suppress(OutputError):  # then the lease runs out, and others take it
                self.end(name, "released")

    def _refresh(self) -> None:
        self._lists.refresh()
        self._ledger.refresh()

    @staticmethod
    def _is_fresh(state: ScanState) -> bool:
        return state.state == "waiting" and not state.deaths

    def _claim(self, name: str, state: ScanState) -> bool:
        if self._ledger.has_event(name, state.events + 1):
            return False
        is_mine = self._ledger.append(name, state.events, "claimed", worker=self._worker)
        if is_mine:
            self._held[name] = state.events + 1
        return is_mine

    def _bury(self, states: dict[str, ScanState]) -> None:
        """Write down that the workers of these scans have died, where they have."""
        for name, state in states.items():
            if state.state == "working" and self._watch.is_dead(state.worker):
                self._ledger.append(name, state.events, "died", worker=state.worker, seen_by=self._worker)
                states[name] = self._ledger.state(name)
