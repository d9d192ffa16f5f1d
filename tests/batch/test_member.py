from signal import SIGKILL

from stunet.batch.crew import Crew
from stunet.batch.member import Member, waiting_member
from stunet.batch.status import BatchReader
from tests.batch.batches import dying_worker, fake_worker, listed_batch


def test_a_worker_without_an_assignment_ends_with_its_crew():
    member = Member.start()
    member.pipe.close()
    member.process.join(120)
    assert member.process.exitcode == 0


def test_a_worker_that_waits_is_gone_in_the_end():
    with waiting_member() as member:
        assert member.process.is_alive()
        process = member.process
    assert process.exitcode == -SIGKILL


def test_a_crew_takes_the_worker_that_waits(tmp_path):
    batch = listed_batch(tmp_path, ["a", "b"])
    Crew(batch, 1, entry=dying_worker, waiting=Member.start(fake_worker)).run()
    assert {record.state.state for record in BatchReader(batch).records()} == {"done"}
