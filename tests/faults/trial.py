"""Ends a command at each of its steps on files, and checks what is left and what the next run makes of it."""

import json
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stunet.batch.settings import BatchFolder
from stunet.batch.status import BatchReader
from tests.faults.kill_points import run_until, signalled
from tests.faults.situations import OUT, Situation

LEDGER = "stunet_batch"
"""Folder of a batch's own files, of which `_require_one_end_each` reads the meaning."""

WITH_TIMES = (".report.json", "stunet_report.json", ".jsonl")
"""Files that differ from run to run by seconds and dates."""


@dataclass(frozen=True)
class Outcome:
    """What became of the trials of one command with one signal.

    Attributes:
        points: how many steps it has, at each of which it was ended once.
        left: how many of the ended runs left temporary files.
    """

    points: int
    left: int


def try_every_point(situation: Situation, number: signal.Signals, folder: Path, every: int = 1) -> Outcome:
    """End the command at each step, or at every second, third, ..., and run it again.

    Raises:
        AssertionError: a file under its final name is not whole, or the next run does not complete the work with the
            same bytes.
    """
    template = folder / "given"
    template.mkdir(parents=True)
    work = folder / "work"  # the same path each time, since files may contain it
    given_in(work, situation, template)
    before = final_files(work / OUT)
    undisturbed = run_until(situation.function, situation.arguments(work), work / OUT)
    assert undisturbed.exit_code == 0 and undisturbed.steps, undisturbed.said
    expected = final_files(work / OUT)
    assert set(expected) > set(before) or before, "nothing was written"
    left = 0
    for point, step in list(enumerate(undisturbed.steps))[::every]:
        where = f"{number.name} before step {point}, {step}"
        given_in(work, situation, template)
        ended = run_until(situation.function, situation.arguments(work), work / OUT, point, signalled(number))
        assert ended.exit_code != 0, f"{where}: nothing happened"
        require_whole(work / OUT, [before, expected], where)
        left += bool(temporary_files(work / OUT))
        again = run_until(situation.function, situation.next_arguments(work), work / OUT)
        assert again.exit_code == 0, f"{where}: the next run ended with {again.exit_code}: {again.said}"
        assert final_files(work / OUT).keys() == expected.keys(), where
        require_whole(work / OUT, [expected], where)
    return Outcome(len(undisturbed.steps), left)


def given_in(work: Path, situation: Situation, template: Path) -> None:
    """Make the inputs anew, from a copy if there is one; a batch's list of scans contains its own path."""
    shutil.rmtree(work, ignore_errors=True)
    if any(template.iterdir()):
        shutil.copytree(template, work)
        return
    work.mkdir()
    situation.given(work)
    shutil.copytree(work, template, dirs_exist_ok=True)


def final_files(folder: Path) -> Mapping[str, bytes]:
    """The bytes of all files below a folder that are not temporary, by their relative paths."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {str(path.relative_to(folder)): path for path in paths}
    return {name: path.read_bytes() for name, path in names.items() if not is_temporary(name)}


def is_temporary(name: str) -> bool:
    """Whether a relative path is that of a hidden file, or of the batch's own."""
    return any(part.startswith(".") or part == LEDGER for part in Path(name).parts)


def temporary_files(folder: Path) -> list[str]:
    """Files that wait for their final name, or lie in a folder that does."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return [str(path) for path in files if any(part.startswith(".") for part in path.parts)]


def require_whole(folder: Path, allowed: list[Mapping[str, bytes]], where: str) -> None:
    """Check that each file has the bytes of one of the allowed states, or is readable where it contains times.

    Raises:
        AssertionError: one has not.
    """
    for name, content in final_files(folder).items():
        if name.endswith(WITH_TIMES):
            for line in content.splitlines() if name.endswith(".jsonl") else [content]:
                json.loads(line)
        else:
            assert any(state.get(name) == content for state in allowed), f"{where}: {name} is not whole"


def require_one_end_each(folder: Path) -> None:
    """Check the ledger of a finished batch.

    Raises:
        AssertionError: a scan is not done, or was done twice.
    """
    for record in BatchReader(BatchFolder(folder)).records():
        assert record.state.state == "done"
        assert [event["event"] for event in record.history].count("done") == 1
