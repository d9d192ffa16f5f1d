import subprocess
import sys

import pytest

from stunet.batch.member import WorkerOptions
from stunet.batch.settings import BatchFolder
from stunet.batch.slurm import slurm_script, submit
from stunet.errors import UserError

FAKE = """#!/bin/sh
echo "$@" > "$0.called"
{}
"""


@pytest.fixture
def fake_sbatch(tmp_path, monkeypatch):
    """Puts a program called sbatch on the path; it notes how it was called."""

    def put(lines):
        program = tmp_path / "bin" / "sbatch"
        program.parent.mkdir()
        program.write_text(FAKE.format(lines))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=":")
        return program.with_name("sbatch.called")

    return put


def test_a_script_starts_one_worker_in_each_task(tmp_path):
    folder = BatchFolder(tmp_path / "labels of 100%")
    script = slurm_script(
        folder, 50, ["partition=gpu", "--gres=gpu:1", "exclusive"], WorkerOptions(6), python="/opt/python"
    )
    lines = script.splitlines()
    assert lines[0] == "#!/bin/sh"
    for option in ("array=0-49", "partition=gpu", "gres=gpu:1", "exclusive", "requeue"):
        assert f"#SBATCH --{option}" in lines
    assert any("labels of 100%%/" in line and '/%A_%a.log"' in line for line in lines)
    assert lines[-1] == f"exec /opt/python -m stunet batch work '{tmp_path}/labels of 100%' --threads 6"


def test_the_script_is_one_that_a_shell_takes_and_its_last_line_is_a_command_of_ours(tmp_path):
    script = tmp_path / "script.sh"
    script.write_text(slurm_script(BatchFolder(tmp_path / "it's"), 1, [], python=sys.executable))
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0


def test_it_is_submitted_where_there_is_sbatch(tmp_path, fake_sbatch):
    called = fake_sbatch("echo '4711;cluster'")
    job = submit(BatchFolder(tmp_path / "out"), 3, [])
    assert job.job == "4711" and job.script.read_text().startswith("#!/bin/sh\n")
    assert called.read_text().split() == ["--parsable", str(job.script)]
    assert (tmp_path / "out" / "stunet_batch" / "slurm").is_dir(), "Slurm makes no folders for its logs"


def test_what_sbatch_refuses_is_said(tmp_path, fake_sbatch):
    fake_sbatch("echo 'invalid partition' >&2; exit 1")
    with pytest.raises(UserError, match=r"sbatch refused .*slurm\.sh: invalid partition"):
        submit(BatchFolder(tmp_path / "out"), 3, ["partition=none"])


def test_without_sbatch_the_script_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    job = submit(BatchFolder(tmp_path / "out"), 3, [], WorkerOptions(2, 3600.0))
    script = job.script.read_text()
    assert job.job is None and "array=0-2" in script and script.endswith(" --threads 2 --scan-timeout 3600\n")
    assert "--threads" not in submit(BatchFolder(tmp_path / "other"), 3, []).script.read_text()
