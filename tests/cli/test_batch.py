import json
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import pytest

from stunet.cli.main import COMMANDS, parse
from tests.batch.batches import listed_batch
from tests.cli.conftest import write_scan
from tests.weights.test_model_file import with_card

LIGHT = """
import sys
from stunet.cli.main import run
code = run(sys.argv[1:])
heavy = {"torch", "openvino"} & set(sys.modules)
assert not heavy, heavy
sys.exit(code)
"""
"""Runs a command, and fails if its process has loaded what only workers need."""

PLAIN = ("--backend", "torch", "--precision", "float32")


@pytest.fixture
def scans(tmp_path):
    folder = tmp_path / "scans"
    for seed, name in enumerate("ab"):
        write_scan(folder / f"{name}.nii.gz", seed)
    (folder / "bad.nii.gz").write_bytes(b"no scan")
    return folder


def result(capsys):
    return json.loads(capsys.readouterr().out)


def test_a_batch_from_start_to_end(stunet, capsys, scans, model_file, tmp_path):
    out = tmp_path / "out"
    command = ("batch", scans, "-o", out, "-m", model_file, *PLAIN, "--threads", 1)
    assert stunet(*command, "--json") == 2
    captured = capsys.readouterr()
    assert json.loads(captured.out)["states"] == {"waiting": 0, "working": 0, "done": 2, "failed": 1, "set aside": 0}
    assert f"stunet: {scans / 'bad.nii.gz'}: " in captured.err and "Traceback" not in captured.err
    assert stunet("predict", "-i", scans, "-o", tmp_path / "plain", "-m", model_file, *PLAIN, "--quiet") == 2
    for name in "ab":
        assert (out / f"{name}.nii.gz").read_bytes() == (tmp_path / "plain" / f"{name}.nii.gz").read_bytes()
    capsys.readouterr()

    assert stunet("batch", "status", out, "--json", "--table", tmp_path / "t.csv") == 2
    status = result(capsys)
    assert status["failures"] == {"damaged, missing or unreadable": 1} and list(status["errors"]) == ["bad"]
    assert (tmp_path / "t.csv").read_text().startswith("scan,state,tries,")
    assert stunet("batch", "status", out) == 2
    printed = capsys.readouterr().out
    assert "out: 3 scans" in printed and "bad.nii.gz" in printed

    assert stunet("batch", "plan", out, "--scans", 1000, "--machines", 2, "--price-per-hour", 1, "--json") == 0
    plan = result(capsys)["plan"]
    assert plan["ledger_files"] == 2000 and plan["cost"] == pytest.approx(plan["machine_hours"])

    assert stunet("batch", "verify", out, "--json") == 2
    assert list(result(capsys)["problems"]) == ["bad"]

    before = (out / "a.nii.gz").stat().st_mtime_ns
    write_scan(scans / "bad.nii.gz", 2)
    (out / "b.nii.gz").unlink()
    assert stunet(*command, "--json") == 2, "what failed is not tried again unless told to"
    assert stunet("batch", "verify", out, "--redo", "--json") == 2
    assert stunet("batch", "work", out, "--retry", "--quiet", "--threads", 1) == 0
    assert (out / "a.nii.gz").stat().st_mtime_ns == before
    capsys.readouterr()
    assert stunet("batch", "verify", out, "--json") == 0
    assert result(capsys) == {"scans": 3, "whole": 3, "problems": {}, "redone": 0}
    assert nibabel.load(out / "bad.nii.gz").shape == (20, 18, 12)


def test_only_the_workers_load_torch(scans, model_file, tmp_path):
    (scans / "bad.nii.gz").unlink()
    out = tmp_path / "out"
    actions = (
        ("batch", scans, "-o", out, "-m", model_file, *PLAIN),
        *(("batch", action, out) for action in ("status", "verify", "work")),
        ("batch", "plan", out, "--scans", 9),
    )
    for words in actions:
        done = subprocess.run([sys.executable, "-c", LIGHT, *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
    assert sorted(path.name for path in out.glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]


def test_weights_that_do_not_fit_their_card_are_a_sentence(stunet, capsys, scans, model_file, tmp_path):
    model = Path(shutil.copy(model_file, tmp_path / "wrong.safetensors"))
    with_card(model, members=2)
    assert stunet("batch", scans, "-o", tmp_path / "out", "-m", model, *PLAIN) == 2
    printed = capsys.readouterr().err
    assert "wrong.safetensors: its tensors are not those of the network on its card" in printed
    assert "Traceback" not in printed


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("batch", "{scans}", "-o", "{out}"), "Which model?"),
        (("batch", "{scans}", "-o", "{scans}", "-m", "{model}"), "the labels would lie among the scans"),
        (("batch", "{scans}/none", "-o", "{out}", "-m", "{model}"), "no such file or folder"),
        (("batch", "{scans}", "-o", "{out}", "-m", "{model}", "--workers", "0"), "--workers is 1 or more"),
        (("batch", "{scans}", "-o", "{out}", "-m", "{model}", "--step", "2"), "step between windows"),
        (("batch", "{scans}", "-o", "{out}", "-m", "{model}", "--slurm-options", "x=1"), "are for --slurm"),
        (("batch", "{scans}", "-o", "{scans}/a.nii.gz/out", "-m", "{model}"), "cannot be written to"),
        (("batch", "status", "{out}"), "there is no batch"),
        (("batch", "work", "{out}"), "there is no batch"),
        (("batch", "verify", "{out}"), "there is no batch"),
        (("batch", "plan", "{out}", "--scans", "9"), "there is no batch"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_is_a_sentence(stunet, capsys, scans, model_file, tmp_path, arguments, sentence):
    places = {"scans": scans, "out": tmp_path / "out", "model": model_file}
    assert stunet(*(argument.format(**places) for argument in arguments)) == 2
    printed = capsys.readouterr().err
    assert sentence in printed and "Traceback" not in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder that nobody can write to")
def test_a_folder_that_cannot_be_written_is_a_sentence(stunet, capsys, scans, model_file):
    assert stunet("batch", scans, "-o", "/proc/labels", "-m", model_file) == 2
    assert "/proc/labels: cannot be written to" in capsys.readouterr().err


def test_other_settings_for_one_folder_are_refused(stunet, capsys, scans, model_file, tmp_path):
    listed_batch(tmp_path / "out", ["a"])
    assert stunet("batch", scans, "-o", tmp_path / "out", "-m", model_file, "--statistics") == 2
    printed = capsys.readouterr().err
    assert "holds a batch with other settings (model was no model, now " in printed
    assert "statistics was None, now True" in printed


def test_workers_for_slurm(stunet, capsys, scans, model_file, tmp_path, monkeypatch):
    sbatch = tmp_path / "bin" / "sbatch"
    sbatch.parent.mkdir()
    sbatch.write_text('#!/bin/sh\ncat "$2" > "$0.script"\necho 42\n')
    sbatch.chmod(0o755)
    monkeypatch.setenv("PATH", str(sbatch.parent), prepend=":")
    command = ("batch", scans, "-o", tmp_path / "out", "-m", model_file, "--workers", 7, "--slurm", "--json")
    assert stunet(*command, "--slurm-options", "partition=gpu", "gres=gpu:1") == 0
    assert result(capsys)["job"] == "42"
    script = sbatch.with_name("sbatch.script").read_text()
    assert "#SBATCH --array=0-6\n" in script and "#SBATCH --gres=gpu:1\n" in script
    assert stunet("batch", "status", tmp_path / "out", "--json") == 0
    assert result(capsys)["states"]["waiting"] == 3
    words = script.splitlines()[-1].split()
    assert words[0] == "exec" and callable(parse(words[words.index("stunet") + 1 :]).run)


def test_the_short_spelling_is_that_of_run():
    assert "batch" in COMMANDS
    short, whole = (parse(["batch", *words, "in", "-o", "out"]) for words in ([], ["run"]))
    assert short == whole


@pytest.mark.slow
def test_three_processes_share_a_folder(stunet, scans, model_file, tmp_path):
    (scans / "bad.nii.gz").unlink()
    for seed in range(2, 40):
        write_scan(scans / f"scan{seed:02d}.nii.gz", seed)
    out = tmp_path / "out"
    start = ("batch", scans, "-o", out, "-m", model_file, *PLAIN, "--slurm", "--quiet")
    assert stunet(*start) == 0
    command = [sys.executable, "-m", "stunet", "batch", "work", str(out), "--threads", "1"]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [worker.communicate()[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0], said
    records = [json.loads(path.read_text()) for path in (out / "stunet_batch" / "records").glob("*/*.2")]
    assert [record["event"] for record in records] == ["done"] * 40
    assert len({record["worker"] for record in records}) == 3
    assert not list((out / "stunet_batch" / "records").glob("*/*.3"))
    assert stunet("predict", "-i", scans, "-o", tmp_path / "plain", "-m", model_file, *PLAIN, "--quiet") == 0
    for path in (tmp_path / "plain").glob("*.nii.gz"):
        assert (out / path.name).read_bytes() == path.read_bytes()
