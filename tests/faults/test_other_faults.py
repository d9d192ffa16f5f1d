"""`stunet predict` while its output folder disappears, memory ends, or another process writes the same file."""

import faulthandler
import os
import re
import resource
import shutil
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import nibabel
import numpy as np
import pytest

from tests.faults.kill_points import command, run_until
from tests.faults.situations import OUT, SITUATIONS
from tests.faults.trial import final_files
from tests.inference.samples import save_tiny_model
from tests.phantoms import smooth_scan

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs processes that are forked")

SINGLE = SITUATIONS["predict, one scan"]


def test_an_output_folder_that_disappears_is_a_sentence(tmp_path: Path):
    SINGLE.given(tmp_path)
    out = tmp_path / OUT
    steps = run_until(command, SINGLE.arguments(tmp_path), out).steps
    for point, step in enumerate(steps):
        run = run_until(
            command, SINGLE.arguments(tmp_path), out, point, partial(shutil.rmtree, out, ignore_errors=True)
        )
        assert "Traceback" not in run.said and "Internal error" not in run.said, f"{step}: {run.said}"
        if run.exit_code:
            assert run.exit_code == 2 and str(out) in run.said, f"{step}: {run.said}"
        shutil.rmtree(out, ignore_errors=True)


def test_two_processes_on_one_output(tmp_path: Path):
    SINGLE.given(tmp_path)
    assert run_until(command, SINGLE.arguments(tmp_path), tmp_path / OUT).exit_code == 0
    expected = final_files(tmp_path / OUT)
    with ThreadPoolExecutor(3) as pool:
        runs = list(pool.map(lambda _: run_until(command, SINGLE.arguments(tmp_path), tmp_path / OUT), range(3)))
    assert [run.exit_code for run in runs] == [0, 0, 0]
    found = final_files(tmp_path / OUT)
    assert found.keys() == expected.keys()
    assert found["a.nii.gz"] == expected["a.nii.gz"]


HANGS_AFTER = 200
"""Seconds after which a process that lacks memory is ended, and says where it was."""

NEVER_STARTED = re.compile(r'Timeout \(.*threading\.py", line \d+ in wait\n.*threading\.py", line \d+ in start\n', re.S)
"""CPython's `Thread.start` waits forever if the new thread finds no memory for its first line (gh-140746)."""


def with_limit(megabytes: int, arguments: Sequence[str]) -> None:
    """The command, in a process that may take so many megabytes more than it has."""
    faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=2)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    command(arguments)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("megabytes", [2, 8, 14, 20])
def test_memory_that_ends_is_a_sentence(tmp_path: Path, megabytes: int):
    """The scan has 16 MB and the model 14, so the process lacks memory sooner or later."""
    nibabel.save(nibabel.Nifti1Image(smooth_scan((160, 160, 160), 0), np.eye(4)), tmp_path / "large.nii.gz")
    model = save_tiny_model(tmp_path / "tiny.safetensors")
    files = ("-i", str(tmp_path / "large.nii.gz"), "-o", str(tmp_path / OUT / "labels.nii.gz"), "-m", str(model))
    run = run_until(
        with_limit, [megabytes, ["predict", *files, "--backend", "torch", "--threads", "1"]], tmp_path / OUT
    )
    if NEVER_STARTED.search(run.said):
        pytest.skip("Python itself hung in Thread.start, for lack of memory")
    assert run.exit_code in (1, 2), run.said
    assert "not enough memory" in run.said.lower() and "Traceback" not in run.said, run.said
    assert not final_files(tmp_path / OUT)
