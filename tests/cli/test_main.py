import json
import logging
import subprocess
import sys

import pytest

from stunet import __version__
from stunet.cli import main
from stunet.cli.main import COMMANDS, run
from stunet.errors import UserError

ACTIONS = {
    "weights": ("get", "import", "list", "verify", "remove"),
    "dataset": ("convert", "check", "subset"),
    "experiment": ("list", "show", "run", "plot"),
}
HELP = [[name] for name in COMMANDS] + [[name, action] for name, actions in ACTIONS.items() for action in actions]


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("words", [[], *HELP], ids=" ".join)
def test_help(stunet, capsys, words):
    assert stunet(*words, "--help") == 0
    shown = capsys.readouterr().out
    assert f"usage: {' '.join(['stunet', *words])}" in shown


def test_the_door_does_not_import_torch():
    code = """
import sys
from stunet.cli.main import main
sys.argv = ["stunet", "--help"]
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
heavy = {"torch", "nnunetv2", "nibabel", "SimpleITK", "scipy", "matplotlib"} & set(sys.modules)
assert not heavy, heavy
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_importing_stunet_does_not_import_torch():
    assert python("import sys, stunet; assert 'torch' not in sys.modules").returncode == 0


def test_the_version(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["stunet", "--version"])
    with pytest.raises(SystemExit) as end:
        main.main()
    assert (end.value.code, capsys.readouterr().out) == (0, f"stunet {__version__}\n")


@pytest.mark.parametrize(
    "words",
    [["predicct"], ["predict"], ["predict", "-i", "a", "-o", "b", "--step", "half"], ["models", "--patch", "1"]],
)
def test_a_usage_error(stunet, capsys, words):
    assert stunet(*words) == 2
    captured = capsys.readouterr()
    assert captured.err and not captured.out


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (
            UserError("scan.nii [odd]: is broken; copy it again."),
            2,
            "stunet: scan.nii [odd]: is broken; copy it again.\n",
        ),
        (KeyboardInterrupt(), 130, "stunet: interrupted\n"),
        (MemoryError(), 1, "stunet: not enough memory\n"),
    ],
)
def test_errors_become_a_sentence_and_an_exit_code(stunet, capsys, monkeypatch, raised, code, said):
    def fail(self):
        raise raised

    monkeypatch.setattr(COMMANDS["doctor"], "run", fail)
    assert stunet("doctor") == code
    assert capsys.readouterr() == ("", said)


def test_a_fault_of_ours_shows_where(stunet, capsys, monkeypatch):
    monkeypatch.setattr(COMMANDS["doctor"], "run", lambda self: 1 // 0)
    assert stunet("doctor") == 1
    assert "ZeroDivisionError" in (said := capsys.readouterr().err)
    assert "internal error. Please report the traceback above" in said


def test_remarks_of_the_rooms_reach_stderr(stunet, capsys, monkeypatch):
    def remark(self):
        logging.getLogger("stunet.imaging.formats.nifti").warning("%s: odd, but read.", "a.nii")
        return 0

    monkeypatch.setattr(COMMANDS["doctor"], "run", remark)
    assert stunet("doctor") == stunet("doctor") == 0
    assert capsys.readouterr().err == "stunet: a.nii: odd, but read.\n" * 2


def test_doctor(stunet, capsys):
    assert stunet("doctor", "--json") == 0
    assert '"torch"' in capsys.readouterr().out
    assert stunet("doctor", "--nnunet") == 0
    assert capsys.readouterr().out.startswith("export nnUNet_extTrainer=")


def test_a_shell_takes_what_doctor_prints_for_nnunet(stunet, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("STUNET_HOME", str(tmp_path / "it's mine [b]"))
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "results"))
    for name in ("raw", "preprocessed"):
        monkeypatch.delenv(f"nnUNet_{name}", raising=False)
    assert stunet("doctor", "--nnunet") == 0
    shown = 'echo "$nnUNet_raw|$nnUNet_preprocessed|$nnUNet_results"'
    script = f"{capsys.readouterr().out}{shown}"
    said = subprocess.run(["sh", "-e", "-c", script], capture_output=True, text=True, check=True).stdout.strip()
    home = tmp_path / "it's mine [b]"
    assert said == f"{home / 'raw'}|{home / 'preprocessed'}|{tmp_path / 'results'}"


def test_doctor_tests_the_whole_way(stunet, capsys, monkeypatch):
    from stunet.batch import self_test

    checks = [self_test.Check("orientation", "RAS"), self_test.Check("format", ".mgz", "3 voxels have another label.")]
    monkeypatch.setattr(self_test, "self_test", lambda on_check: checks)
    assert stunet("doctor", "--self-test") == 1
    assert "1 of 2 checks are wrong" in (shown := capsys.readouterr().out) and "3 voxels have another" in shown
    assert stunet("doctor", "--self-test", "--json") == 1
    assert json.loads(capsys.readouterr().out)["wrong"] == 1


@pytest.mark.parametrize(
    ("raised", "sentence", "exit_code"),
    [(MemoryError, "stunet: not enough memory\n", 1), (KeyboardInterrupt, "stunet: interrupted\n", 130)],
)
def test_what_ends_a_command_before_it_is_parsed_is_a_sentence(raised, sentence, exit_code, capsys, monkeypatch):
    def ends(*_arguments: object, **_options: object) -> None:
        raise raised

    monkeypatch.setattr("stunet.cli.main.tyro.cli", ends)
    assert run(["demo"]) == exit_code
    assert capsys.readouterr().err == sentence
