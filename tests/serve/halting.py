"""`stunet serve` whose jobs halt where a test wants to cancel them, or to kill the server.

The variable STUNET_TEST_HALT names a file with the place: a stage of a job, `WRITTEN` or `IN_PLACE`. A job that gets
there writes a file beside it that ends in `.reached`, and stays until it is cancelled or its process ends.
"""

import os
from pathlib import Path

from stunet.serve import job as job_module
from stunet.serve import runner as runner_module
from stunet.serve.job import JobResult, run_job

WRITTEN, IN_PLACE = "written", "in place"
"""The results are written under a temporary name; they have their name, and the server does not know it yet."""


def run_halting(order, tell, stop) -> JobResult:
    """A job as `run_job` runs it, but for the halt."""
    file = Path(os.environ["STUNET_TEST_HALT"])

    def halt_at(place):
        if file.exists() and file.read_text() == place:
            file.with_suffix(".reached").touch()
            stop.wait()

    def tell_and_halt(progress):
        tell(progress)
        halt_at(progress.stage)

    def save_and_halt(*arguments):
        save_result(*arguments)
        halt_at(WRITTEN)

    save_result = job_module.save_result
    job_module.save_result = save_and_halt
    try:
        result = run_job(order, tell_and_halt, stop)
    finally:
        job_module.save_result = save_result
    halt_at(IN_PLACE)
    return result


if __name__ == "__main__":
    from stunet.cli.main import main
    from tests.serve.halting import run_halting as found_by_its_name

    runner_module.run_job = found_by_its_name
    main()
