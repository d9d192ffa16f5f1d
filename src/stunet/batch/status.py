"""How far a batch is, from its ledger: what is done, how fast it goes, what failed and why."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stunet.batch.event import Event
from stunet.batch.ledger import STATES, Ledger, ScanState, State
from stunet.batch.listing import ListedScan, ScanLists
from stunet.batch.liveness import live_workers
from stunet.batch.settings import BatchFolder
from stunet.errors import FileError

ENDS = ("error", "kind", "seconds", "peak_memory_mib", "warnings")
RESULT = ("input", "outputs", "model", "versions", "backend", "answer")
"""Of events, what a status, a table, a plan or a verification needs."""


WORKER_DIED = "worker died"
"""The kind of failure of scans that are set aside."""


@dataclass(frozen=True)
class ScanRecord:
    """All that the ledger knows of a scan.

    Attributes:
        scan: what is segmented.
        state: what its history amounts to.
        history: its events, in order.
    """

    scan: ListedScan
    state: ScanState
    history: Sequence[Event]

    @property
    def error(self) -> str | None:
        """Why it is not segmented, as a sentence; None where it is, or may still be."""
        if self.state.state == "failed":
            return str(self.state.last.get("error", ""))
        if self.state.state == "set aside":
            return (
                f"{self.scan.files[0].path}: set aside, because {self.state.deaths} workers ended unexpectedly while "
                "they worked on it. It may need more memory than there is, or be damaged. --retry tries it again."
            )
        return None

    @property
    def kind(self) -> str:
        """The kind of failure, where there is one."""
        return WORKER_DIED if self.state.state == "set aside" else str(self.state.last.get("kind", ""))


@dataclass(frozen=True)
class Pace:
    """How fast a worker is.

    Attributes:
        scans: that it finished or failed at.
        seconds: from its first claim to its last event.
    """

    scans: int
    seconds: float


@dataclass(frozen=True)
class BatchStatus:
    """How far a batch is.

    Attributes:
        scans: how many there are.
        states: how many scans are in each state.
        failures: how many scans failed, by the kind of failure.
        workers: how many are working now.
        scans_per_hour: of these workers together; None where it is not known yet.
        seconds_left: at that pace; None where it is not known, 0 where all is finished.
        mean_seconds: by stage, of the scans that are done.
        peak_memory_mib: the most that a worker had; None where it is not known.
        errors: the sentence of each scan that failed or is set aside.
    """

    scans: int
    states: dict[str, int]
    failures: dict[str, int]
    workers: int
    scans_per_hour: float | None
    seconds_left: float | None
    mean_seconds: dict[str, float]
    peak_memory_mib: int | None
    errors: dict[str, str]

    @property
    def finished(self) -> int:
        """How many scans are done, failed or set aside."""
        return self.scans - self.states["waiting"] - self.states["working"]


class BatchReader:
    """Reads a batch's records again and again; what was read once is not read a second time.

    Args:
        folder: of the batch.

    Raises:
        UserError: there is no batch.
    """

    def __init__(self, folder: BatchFolder):
        folder.settings()
        self.folder = folder
        self._ledger = Ledger(folder.ledger, details=("at", *ENDS, *RESULT))
        self._lists = ScanLists(self._ledger)

    def records(self) -> list[ScanRecord]:
        """The present record of each scan, in order of name."""
        self._lists.refresh()
        self._ledger.refresh()
        scans = sorted(self._lists.scans.values(), key=lambda scan: scan.name)
        if not scans:
            raise FileError(f"{self.folder.path}: no scans are listed yet.")
        return [ScanRecord(scan, self._ledger.state(scan.name), self._ledger.history(scan.name)) for scan in scans]

    def status(self) -> BatchStatus:
        """How far the batch is now."""
        return status_of(self.records(), self.live())

    def live(self) -> set[str]:
        """The names of the workers that seem to be alive."""
        return live_workers(self.folder.workers)


def status_of(records: Sequence[ScanRecord], live: Collection[str]) -> BatchStatus:
    """How far a batch with these records is.

    Args:
        records: of all scans.
        live: the names of the workers that are alive.
    """
    states = Counter(record.state.state for record in records)
    done = events_of(records, "done")
    working = {event["worker"] for event in events_of(records, "working")}.intersection(live)
    errors = [(record.scan.name, record.kind, record.error) for record in records if record.error is not None]
    rate = _rate(paces(records), working)
    return BatchStatus(
        scans=len(records),
        states={state: states[state] for state in STATES},
        failures=dict(Counter(kind for _, kind, _ in errors).most_common()),
        workers=len(working),
        scans_per_hour=None if rate is None else round(rate * 3600, 1),
        seconds_left=_seconds_left(states["waiting"] + states["working"], rate),
        mean_seconds=mean_seconds(done),
        peak_memory_mib=peak_memory_mib(done),
        errors={name: sentence for name, _, sentence in errors},
    )


def paces(records: Iterable[ScanRecord]) -> dict[str, Pace]:
    """How fast each worker was, by its own clock; without those whose clock stood still or went back."""
    times: dict[str, list[float]] = {}
    ends: Counter[str] = Counter()
    for record in records:
        for event in record.history:
            if event["event"] in ("claimed", "done", "failed"):
                times.setdefault(event["worker"], []).append(event["at"])
                ends[event["worker"]] += event["event"] != "claimed"
    spans = {worker: max(at) - min(at) for worker, at in times.items()}
    return {worker: Pace(ends[worker], seconds) for worker, seconds in spans.items() if ends[worker] and seconds > 0}


def _rate(known: Mapping[str, Pace], working: Iterable[str]) -> float | None:
    """Scans a second of the workers that are working now."""
    rates = [known[worker].scans / known[worker].seconds for worker in working if worker in known]
    return sum(rates) or None


def _seconds_left(scans: int, rate: float | None) -> float | None:
    if not scans:
        return 0.0
    return None if rate is None else round(scans / rate)


def events_of(records: Iterable[ScanRecord], state: State) -> list[Event]:
    """The last event of each scan in this state."""
    return [record.state.last for record in records if record.state.state == state]


def peak_memory_mib(done: Iterable[Event]) -> int | None:
    """The most that a worker had when it finished one of these scans; None where that is not known."""
    return max((event.get("peak_memory_mib") or 0 for event in done), default=0) or None


def output_bytes(done: Event) -> int:
    """Of all files that were written for a scan."""
    return sum(one["bytes"] for one in done.get("outputs", {}).values())


def mean_seconds(done: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By stage, over scans that are done."""
    timed = [event["seconds"] for event in done if "seconds" in event]
    return {stage: round(fmean(seconds.get(stage, 0.0) for seconds in timed), 3) for stage in (timed or [{}])[0]}
