"""Help of every command: plain placeholders, examples, and one meaning for one option."""

import re
from collections import defaultdict

import pytest

LEAVES = [
    *(("predict",), ("models",), ("prepare",), ("train",), ("evaluate",), ("export",), ("demo",), ("doctor",)),
    *(("verify",), ("report",)),
    *(("serve",), ("mcp",)),
    *(("weights", action) for action in ("get", "import", "export", "list", "verify", "remove")),
    *(("dataset", action) for action in ("convert", "check", "subset")),
    *(("batch", action) for action in ("run", "work", "status", "verify", "plan")),
    *(("experiment", action) for action in ("list", "show", "run", "plot")),
]
WITHOUT_EXAMPLE = {("weights", "list"), ("weights", "verify"), ("weights", "remove")}
"""Their names say how they are called."""

SEVERAL_KINDS = {"--output", "--dataset", "--classes", "--names", "--plans", "--patch", "--precision", "--channels"}
"""A file, a folder or several; a number or names: what the command needs of it."""


@pytest.fixture
def help_of(stunet, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")

    def show(*command):
        assert stunet(*command, "--help") == 0
        return capsys.readouterr().out

    return show


@pytest.mark.parametrize("command", LEAVES, ids=" ".join)
def test_help_is_plain(help_of, command):
    text = help_of(*command)
    for odd in ("{None}", "(default: )", "default: None", "default: False", " STR", " INT", " FLOAT", "[PATH [PATH"):
        assert odd not in text, odd
    assert ("Example" in text) == (command not in WITHOUT_EXAMPLE)
    for option in ("--json", "--quiet", "--verbose", "--threads N"):
        assert option in text


def test_the_first_help_says_how_to_begin_and_what_exit_codes_mean(help_of):
    text = help_of()
    assert "stunet demo" in text and "-m base" in text and "stunet --version" in text
    assert "0 all done, 1 failure, 2 bad input or usage, 130 interrupted" in text


def test_an_option_takes_the_same_kind_of_value_everywhere(help_of):
    found = defaultdict(set)
    for command in LEAVES:
        for names in re.findall(r"^│ (-.+?)(?:  |│)", help_of(*command), flags=re.M):
            for name, value in re.findall(r"(--[a-z-]+)((?: [A-Z{][^, ]*)*)", names):
                found[name].add(value.strip())
    several = {name for name, values in found.items() if len(values) > 1}
    assert several <= SEVERAL_KINDS, {name: found[name] for name in several - SEVERAL_KINDS}


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("predct",), "Did you mean 'predict'?"),
        (("models", "hugee"), "Did you mean 'huge'?"),
        (("experiment", "show", "tabel3"), "Did you mean 'table3'?"),
        (("weights", "get", "bsae"), "Did you mean 'base'?"),
        (("train", "-d", 4, "--size", "smal"), "Did you mean 'small'?"),
        (("evaluate", "-p", "x", "-r", "y", "--mapping", "btvc"), "Did you mean 'btcv'?"),
    ],
)
def test_a_name_that_is_nearly_right(stunet, capsys, command, sentence):
    assert stunet(*command) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("threads", ["0", "-1"])
def test_threads_are_one_or_more(stunet, capsys, threads):
    assert stunet("models", "--threads", threads) == 2
    assert "--threads must be 1 or more" in capsys.readouterr().err


def test_threads_are_those_of_torch(stunet):
    import torch

    before = torch.get_num_threads()
    try:
        assert stunet("models", "tiny", "--threads", 1) == 0
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


def test_quiet_prints_errors_only(stunet, capsys, scan, model_file, tmp_path):
    assert stunet("predict", "-i", scan, "-o", tmp_path / "labels.nii.gz", "-m", model_file, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert stunet("predict", "-i", tmp_path / "lost.nii.gz", "-o", tmp_path / "labels.nii.gz", "-q") == 2
    assert "lost.nii.gz" in capsys.readouterr().err


def test_verbose_shows_where_an_error_comes_from(stunet, capsys, tmp_path):
    assert stunet("predict", "-i", tmp_path / "lost.nii.gz", "-o", tmp_path / "labels.nii.gz", "-m", "base", "-v") == 2
    assert "Traceback" in capsys.readouterr().err
