import pytest

from stunet.batch.ledger import Ledger
from stunet.batch.plan import Machines, measured, plan_for
from stunet.errors import UserError
from tests.batch.batches import listed_batch


@pytest.fixture
def batch(tmp_path, monkeypatch):
    """Two workers of four scans each, 10 and 30 seconds a scan; one of the eight failed."""
    batch = listed_batch(tmp_path, [f"scan{number}" for number in range(8)])
    for worker, seconds in ((0, 10.0), (1, 30.0)):
        now = [1e6 * (worker + 1)]
        monkeypatch.setattr("stunet.batch.ledger.time.time", lambda now=now: now[0])
        ledger = Ledger(batch.ledger)
        for number in range(4):
            name = f"scan{4 * worker + number}"
            ledger.append(name, 0, "claimed", worker=f"w{worker}")
            now[0] += seconds
            if number == 3 and worker:
                ledger.append(name, 1, "failed", worker=f"w{worker}", error="", kind="")
                continue
            ledger.append(
                name,
                1,
                "done",
                worker=f"w{worker}",
                seconds={"total": seconds},
                input={"bytes": 1000},
                outputs={"a": {"bytes": 10}, "b": {"bytes": 20}},
                peak_memory_mib=1,
            )
    return batch


def test_a_plan_multiplies_what_was_measured(batch):
    rate = measured(batch)
    assert (rate.scans, rate.seconds_per_scan, rate.slowest_seconds) == (8, 20.0, 30.0)
    assert (rate.input_bytes, rate.output_bytes, rate.failed) == (1000, 30, 0.125)
    plan = plan_for(3600, rate, Machines(count=10, workers=2, price_per_hour=0.5))
    assert plan.scans_per_second == 1.0
    assert plan.hours == pytest.approx(1 + 30 / 3600)
    assert plan.machine_hours == pytest.approx(10 * plan.hours)
    assert plan.cost == pytest.approx(5 * plan.hours) and plan.cost_per_scan == pytest.approx(plan.cost / 3600)
    assert (plan.input_bytes_per_second, plan.output_bytes) == (1000, 3600 * 30)
    assert (plan.ledger_files, plan.ledger_files_per_second) == (7200, 2)
    assert plan_for(1, rate, Machines()).cost is None


def test_what_cannot_be_planned_is_a_sentence(batch, tmp_path):
    rate = measured(batch)
    with pytest.raises(UserError, match="1 scan or more"):
        plan_for(0, rate, Machines())
    with pytest.raises(UserError, match="1 or more machines"):
        Machines(count=0)
    with pytest.raises(UserError, match="no scan is done yet"):
        measured(listed_batch(tmp_path / "new", ["a"]))
