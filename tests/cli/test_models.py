"""Table 2 of the paper, on the command line."""

import json

import pytest

TABLE_2 = {"small": (14.60, 0.13), "base": (58.26, 0.51), "large": (440.30, 3.81), "huge": (1457.33, 12.60)}


def test_table_2_to_its_last_digit(stunet, capsys):
    assert stunet("models", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in shown["sizes"]}
    assert list(rows) == ["tiny", *TABLE_2]
    for name, (parameters, mult_adds) in TABLE_2.items():
        assert rows[name]["parameters_million"] == parameters
        assert rows[name]["mult_adds_tera"] == mult_adds
        assert rows[name]["macs_tera"] != rows[name]["mult_adds_tera"]
        assert rows[name]["inference_macs_tera"] < rows[name]["macs_tera"]
    catalogue = {row["name"]: row for row in shown["catalogue"]}
    assert {"hippocampus", "small", "base", "large", "huge"} <= set(catalogue)
    assert all(row["licence"] and row["source"] for row in catalogue.values())


def test_one_size_with_another_patch(stunet, capsys):
    assert stunet("models", "tiny", "--patch", 64, 64, 96, "--classes", 3, "--channels", 2, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["patch"], shown["classes"]) == ([64, 64, 96], 3)
    assert [row["name"] for row in shown["sizes"]] == ["tiny"]


def test_the_table(stunet, capsys):
    assert stunet("models", "base") == 0
    shown = capsys.readouterr().out
    assert "58.26" in shown and "torchinfo" in shown


@pytest.mark.parametrize(
    ("words", "sentence"), [(["bse"], "bse"), (["tiny", "--patch", "50", "64", "64"], "multiple of 32")]
)
def test_what_cannot_be_counted(stunet, capsys, words, sentence):
    assert stunet("models", *words) == 2
    assert sentence in capsys.readouterr().err
