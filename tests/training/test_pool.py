import os
import signal

import pytest

from stunet.errors import UserError
from stunet.training.pool import each_case


def work(case, log):
    print("nnU-Net would talk here")
    if case == "bad":
        raise UserError("bad.nii.gz: is empty.")
    if case == "odd":
        raise RuntimeError("something that a reader raised")
    if case == "huge":
        raise MemoryError
    if case == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    (log / case).touch()


@pytest.mark.parametrize("processes", [1, 2])
def test_a_failure_costs_only_its_case(tmp_path, capfd, processes):
    arguments = {case: (case, tmp_path) for case in ("bad", "good", "odd", "huge", "fine")}
    outcomes = dict(each_case(work, arguments, processes))
    assert outcomes == {
        "bad": "bad.nii.gz: is empty.",
        "good": None,
        "odd": "RuntimeError: something that a reader raised",
        "huge": "not enough memory for this case; use fewer --workers.",
        "fine": None,
    }
    assert {path.name for path in tmp_path.iterdir()} == {"good", "fine"}
    assert capfd.readouterr().out == ""


def test_a_process_that_is_killed(tmp_path):
    with pytest.raises(UserError, match=r"A process was killed.*fewer --workers"):
        list(each_case(work, {case: (case, tmp_path) for case in ("killed", "other")}, 2))
