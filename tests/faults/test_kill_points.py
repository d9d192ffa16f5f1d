"""Every command that writes files, ended at each of its steps on files."""

import os
import signal
from pathlib import Path

import pytest

from tests.faults.kill_points import run_until
from tests.faults.situations import OUT, SITUATIONS
from tests.faults.trial import require_one_end_each, try_every_point

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 3])
@pytest.mark.parametrize("name", SITUATIONS)
def test_killed_at_its_steps(name: str, every: int, tmp_path: Path):
    outcome = try_every_point(SITUATIONS[name], signal.SIGKILL, tmp_path, every)
    assert outcome.points >= 3
    if name.startswith("batch"):
        require_one_end_each(tmp_path / "work" / OUT)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("name", SITUATIONS)
def test_signalled_at_every_step(name: str, number: signal.Signals, tmp_path: Path):
    outcome = try_every_point(SITUATIONS[name], number, tmp_path)
    assert number == signal.SIGTERM or not outcome.left, "Ctrl-C leaves no temporary files"


def write_twice(folder: Path) -> None:
    """A file that is written in place: what the trials are there to find."""
    (folder / OUT).mkdir(exist_ok=True)
    (folder / OUT / "a.txt").write_bytes(b"half")
    with (folder / OUT / "a.txt").open("ab") as file:
        file.write(b" and half")


def test_the_trials_find_a_file_that_is_not_whole(tmp_path: Path):
    from tests.faults.situations import Situation

    careless = Situation(lambda folder: [folder], lambda folder: None, function=write_twice)
    with pytest.raises(AssertionError, match=r"SIGKILL before step 2, open a\.txt: a\.txt is not whole"):
        try_every_point(careless, signal.SIGKILL, tmp_path)


def test_a_run_tells_its_steps(tmp_path: Path):
    (tmp_path / OUT).mkdir()
    run = run_until(write_twice, [tmp_path], tmp_path / OUT, 1)
    assert run.exit_code == -signal.SIGKILL
    assert run.steps == ("mkdir .", "open a.txt")
