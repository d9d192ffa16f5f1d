from stunet.batch import member as member_module
from stunet.batch.crew import Crew
from stunet.batch.member import Member, waiting_members
from stunet.batch.status import BatchReader
from tests.batch.batches import dying_worker, fake_worker, listed_batch


def test_a_worker_without_an_assignment_ends_with_its_crew():
    member = Member.start()
    member.pipe.close()
    member.process.join(120)
    assert member.process.exitcode == 0


def test_workers_that_wait_are_gone_in_the_end(monkeypatch):
    monkeypatch.setattr(member_module, "usual_threads", lambda: 2)
    with waiting_members(3) as members:
        assert len(members) == 2
        assert all(member.process.is_alive() for member in members)
    assert not any(member.process.is_alive() for member in members)


def test_a_crew_takes_the_worker_that_waits(tmp_path):
    batch = listed_batch(tmp_path, ["a", "b"])
    Crew(batch, 1, entry=dying_worker, waiting=[Member.start(fake_worker)]).run()
    assert {record.state.state for record in BatchReader(batch).records()} == {"done"}
