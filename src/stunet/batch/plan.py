"""What many scans take and cost, from what fewer scans took."""

from dataclasses import dataclass
from statistics import fmean, quantiles

from stunet.batch.settings import BatchFolder
from stunet.batch.status import BatchReader, ScanRecord, events_of, output_bytes, paces
from stunet.errors import UserError


@dataclass(frozen=True)
class Machines:
    """Machines that are as fast as those that were measured.

    Attributes:
        count: how many.
        workers: on each.
        price_per_hour: of one; None where it is not known.
    """

    count: int = 1
    workers: int = 1
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        """Raises UserError for machines that cannot be."""
        if self.count < 1 or self.workers < 1:
            raise UserError("There are 1 or more machines, with 1 or more workers each.")
        if self.price_per_hour is not None and self.price_per_hour < 0:
            raise UserError("A price is 0 or more.")


@dataclass(frozen=True)
class Measured:
    """What the ledger of a batch says of its scans.

    Attributes:
        scans: how many ended while they were timed.
        seconds_per_scan: of one worker, from one scan to the next, waiting and failures included.
        slowest_seconds: the longest that a scan took, but for one in twenty.
        input_bytes: of a scan.
        output_bytes: of a scan.
        failed: the share of scans that failed or were set aside.
    """

    scans: int
    seconds_per_scan: float
    slowest_seconds: float
    input_bytes: float
    output_bytes: float
    failed: float


@dataclass(frozen=True)
class Plan:
    """What a number of scans takes.

    Attributes:
        scans: how many.
        hours: from the first scan to the last.
        machine_hours: of all machines together.
        cost: of these, in the currency of the price; None where there is no price.
        cost_per_scan: likewise.
        scans_per_second: of all machines together.
        input_bytes_per_second: that the store of the scans has to deliver.
        output_bytes: in all.
        ledger_files: small files that the ledger has in the end.
        ledger_files_per_second: that are created.
    """

    scans: int
    hours: float
    machine_hours: float
    cost: float | None
    cost_per_scan: float | None
    scans_per_second: float
    input_bytes_per_second: float
    output_bytes: float
    ledger_files: int
    ledger_files_per_second: float


EVENTS_PER_SCAN = 2
"""That it is claimed, and that it is done."""


def measured(folder: BatchFolder) -> Measured:
    """What the scans of a batch took.

    Raises:
        UserError: there is no batch, or it has no scan that was timed.
    """
    records = BatchReader(folder).records()
    known = paces(records).values()
    done = [event for event in events_of(records, "done") if "total" in event.get("seconds", {}) and "input" in event]
    if not done or not known:
        raise UserError(f"{folder.path}: no scan is done yet, so nothing is measured; segment some scans first.")
    timed = sum(pace.scans for pace in known)
    return Measured(
        scans=timed,
        seconds_per_scan=sum(pace.seconds for pace in known) / timed,
        slowest_seconds=_slow([event["seconds"]["total"] for event in done]),
        input_bytes=fmean(event["input"]["bytes"] for event in done),
        output_bytes=fmean(map(output_bytes, done)),
        failed=_share_of_failures(records),
    )


def _slow(seconds: list[float]) -> float:
    """What nineteen of twenty do not exceed."""
    return quantiles(seconds, n=20, method="inclusive")[-1] if len(seconds) > 1 else seconds[0]


def _share_of_failures(records: list[ScanRecord]) -> float:
    ended = [record for record in records if record.state.is_final]
    return sum(record.error is not None for record in ended) / len(ended)


def plan_for(scans: int, rate: Measured, machines: Machines) -> Plan:
    """What scans like those that were measured take.

    The last scan may begin when all others are done, so its time is added. Machines are taken to cost from beginning to
    end, and to be as fast together as alone.

    Raises:
        UserError: no scans.

    >>> rate = Measured(100, 36.0, 60.0, 30e6, 1e6, 0.01)
    >>> plan = plan_for(1000, rate, Machines(count=5, workers=2, price_per_hour=0.5))
    >>> round(plan.hours, 3), round(plan.cost, 2), round(plan.cost_per_scan, 4), plan.ledger_files
    (1.017, 2.54, 0.0025, 2000)
    """
    if scans < 1:
        raise UserError("A plan is for 1 scan or more.")
    per_second = machines.count * machines.workers / rate.seconds_per_scan
    hours = (scans / per_second + rate.slowest_seconds) / 3600
    cost = None if machines.price_per_hour is None else hours * machines.count * machines.price_per_hour
    return Plan(
        scans=scans,
        hours=hours,
        machine_hours=hours * machines.count,
        cost=cost,
        cost_per_scan=None if cost is None else cost / scans,
        scans_per_second=per_second,
        input_bytes_per_second=per_second * rate.input_bytes,
        output_bytes=scans * rate.output_bytes,
        ledger_files=scans * EVENTS_PER_SCAN,
        ledger_files_per_second=per_second * EVENTS_PER_SCAN,
    )
