"""A job that ends as its model is called; in a file of its own, for a process that imports little else."""

import os

from stunet.errors import FileError
from stunet.serve.job import JobResult
from stunet.serve.job_table import Progress


def pretend_to_run(order, tell, stop):
    """What the name of the model says."""
    tell(Progress("reading", 0.1))
    if order.model == "crash":
        os._exit(9)
    if order.model == "bad":
        raise FileError("a sentence")
    if order.model == "fault":
        raise ZeroDivisionError
    order.output.mkdir(parents=True)
    return JobResult(("a warning",))
