"""The scripts in `examples` start trainings that stunet knows, and resume them.

Slurm and torchrun are stand-ins that write down their arguments.
"""

import re
import signal
import subprocess
import time
from textwrap import dedent

import pytest

from stunet.cli.main import parse
from tests.conftest import REPOSITORY
from tests.docs.blocks import arguments_of, blocks_of

SLURM = REPOSITORY / "examples" / "slurm_pretrain.sh"
KUBERNETES = REPOSITORY / "examples" / "kubernetes_pretrain.yaml"
TUTORIAL = REPOSITORY / "docs" / "tutorials" / "pretrain-on-a-cluster.md"
FOLD = "results/Dataset501_TotalSegmentator/STUNetTrainer_huge__STUNetPublishedPlans_huge__3d_fullres/fold_0"


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A PATH with stand-ins: each appends its arguments, a line each call, to a file of its name in the folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    answers = {"srun": 'eval "$DURING"', "torchrun": ":", "scancel": ":", "scontrol": "echo node1; echo node2"}
    for name, answer in answers.items():
        (programs / name).write_text(f'#!/bin/bash\necho "$@" >> {tmp_path / name}\n{answer}\n')
        (programs / name).chmod(0o755)
    variables = {
        "PATH": f"{programs}:/usr/bin:/bin",
        "STUNET_HOME": str(tmp_path),
        "SLURM_JOB_ID": "7",
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_NNODES": "2",
        "SLURM_GPUS_ON_NODE": "8",
        "DURING": ":",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return tmp_path


def started(folder, program) -> list[str]:
    """What stunet gets of the one command that was started."""
    (line,) = (folder / program).read_text().splitlines()
    words = line.split()
    return arguments_of(words if words[0] == "torchrun" else ["torchrun", *words])


def kubernetes_script() -> str:
    return dedent(re.search(r"- \|\n(.*?)\n +env:", KUBERNETES.read_text(), re.S)[1])


SCRIPTS = pytest.mark.parametrize(
    ("script", "program"), [(SLURM.read_text(), "srun"), (kubernetes_script(), "torchrun")]
)


@SCRIPTS
def test_it_starts_a_pretraining_of_huge(cluster, script, program):
    subprocess.run(["bash", "-c", script], check=True)
    settings = parse(started(cluster, program)).settings
    assert (settings.task.dataset, settings.task.size, settings.task.plan) == ("501", "huge", "published")
    assert settings.schedule.recipe == "pretrain"
    assert settings.schedule.batch_size == (16 if program == "srun" else 32)
    assert not settings.task.resume


@SCRIPTS
def test_it_resumes_where_there_is_a_checkpoint(cluster, script, program):
    (cluster / FOLD / "stunet_checkpoint").mkdir(parents=True)
    subprocess.run(["bash", "-c", script], check=True)
    assert parse(started(cluster, program)).settings.task.resume


def test_a_job_whose_time_is_up_saves_and_goes_back_into_the_queue(cluster, monkeypatch):
    monkeypatch.setenv("DURING", f"touch {cluster}/runs; sleep 2; touch {cluster}/saved")
    job = subprocess.Popen(["bash", "-c", SLURM.read_text()])
    while not (cluster / "runs").exists():
        time.sleep(0.05)
    job.send_signal(signal.SIGTERM)
    assert job.wait(timeout=60) == 128 + signal.SIGTERM
    assert (cluster / "scancel").read_text() == "--signal=TERM 7\n"
    assert (cluster / "saved").exists()
    assert (cluster / "scontrol").read_text().splitlines()[-1] == "requeue 7"


def test_the_tutorial_has_the_script_for_slurm():
    assert SLURM.read_text() in [block.text for block in blocks_of(TUTORIAL)]
