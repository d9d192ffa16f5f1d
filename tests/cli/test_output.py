"""JSON on stdout is JSON in every encoding that stdout may have."""

import io
import json
import sys

import pytest

from stunet.cli.main import run
from stunet.cli.output import MESSAGES, print_json, print_sentence, print_table

RESULT = {"größe": 1.5, "path": "sc\udce4n_头³.nii", "quoted": 'a\\b"c'}


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "cp932", "cp1252", "ascii", "utf-16"])
def test_json_in_every_encoding(monkeypatch, encoding):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace"))
    print_json(RESULT)
    sys.stdout.flush()
    assert json.loads(written.getvalue().decode(encoding)) == RESULT
    assert ("größe" in written.getvalue().decode(encoding)) == (encoding == "utf-8")


@pytest.mark.parametrize("name", ["a:dog:b", "a[red]b", "a[/b]"])
def test_names_are_printed_as_they_are(capsys, name):
    print_sentence({}, False, f"stunet: {name}")
    print_table(name, ("structure", "mm³"), [(name, "1")], MESSAGES)
    assert capsys.readouterr().err.count(name) == 3


@pytest.mark.parametrize("name", ["a:dog:b", "a[red]b", "a[/b"])
def test_names_in_errors_and_results_are_printed_as_they_are(stunet, capsys, tmp_path, scan, model_file, name):
    out = tmp_path / f"{name}.nii.gz"
    assert stunet("predict", "-i", tmp_path / f"{name}.nii.gz", "-o", tmp_path / "o.nii.gz", "-m", model_file) == 2
    assert f"{name}.nii.gz" in capsys.readouterr().err
    assert stunet("predict", "-i", scan, "-o", out, "-m", model_file) == 0
    assert str(out) in capsys.readouterr().out


def test_errors_are_printed_without_loading_anything(monkeypatch, capsys):
    """Memory may have run out, and rich loads a table of pictures when it prints a colon."""
    monkeypatch.setitem(sys.modules, "rich._emoji_codes", None)
    assert run(["evaluate", "-p", "no:such:folder", "-r", "neither"]) == 2
    assert "no:such:folder" in capsys.readouterr().err
