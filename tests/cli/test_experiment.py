"""`stunet experiment`: what it lists, shows, runs and refuses."""

import json

import pytest

from stunet.experiments.registry import EXPERIMENTS


def test_the_list(stunet, capsys):
    assert stunet("experiment", "list", "--json") == 0
    listed = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(EXPERIMENTS)
    assert listed["table3"]["needs"] == "totalsegmentator"
    assert stunet("experiment", "list") == 0
    assert "FLARE22" in capsys.readouterr().out


def test_show_tells_cost_data_and_the_papers_numbers(stunet, capsys):
    assert stunet("experiment", "show", "figure4", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["run"]: row for row in shown["runs"]}
    assert rows["stunet-s-100"]["paper"] == "all DSC 83.74"
    assert rows["stunet-s-5"]["paper"] == ""
    assert rows["stunet-b-100"]["gpu_hours"] == pytest.approx(15, rel=0.1)
    assert shown["gpu_hours"] == pytest.approx(sum(row["gpu_hours"] for row in rows.values()), abs=1.1)
    assert shown["data"]["totalsegmentator"]["command"].startswith("stunet dataset convert totalsegmentator")
    assert stunet("experiment", "show", "table5", "--profile", "mini") == 0
    out = capsys.readouterr().out
    assert "DKFZ" in out and "not the paper's claim" in " ".join(out.split())


def test_run_prints_the_paper_beside_ours(stunet, capsys, tmp_path):
    assert stunet("experiment", "run", "table2", "-o", tmp_path / "t2") == 0
    printed = capsys.readouterr()
    assert "1457.33" in printed.out and "difference" in printed.out
    assert "torchinfo" in printed.err
    assert {"results.json", "table2.md", "table2.csv", "table2.tex"} <= {p.name for p in (tmp_path / "t2").iterdir()}
    assert stunet("experiment", "run", "table2", "-o", tmp_path / "t2") == 2
    assert "--resume" in capsys.readouterr().err
    assert stunet("experiment", "run", "table2", "-o", tmp_path / "t2", "--resume", "--json") == 0
    measurements = json.loads(capsys.readouterr().out)["measurements"]
    assert {m["system"]: m["value"] for m in measurements if m["metric"] == "parameters (M)"} == {
        "STU-Net-S": pytest.approx(14.60, abs=0.005),
        "STU-Net-B": pytest.approx(58.26, abs=0.005),
        "STU-Net-L": pytest.approx(440.30, abs=0.005),
        "STU-Net-H": pytest.approx(1457.33, abs=0.005),
    }


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "table3"), "--data totalsegmentator=FOLDER"),
        (("run", "table33"), "Did you mean 'table3'"),
        (("run", "table3", "--only", "nothing*"), "They are: count-nnunet"),
        (("run", "table3", "--data", "totalsegmentator"), "NAME=FOLDER"),
        (("run", "table2", "--gpus", "-1"), "0 or more"),
        (("plot", "figure4"), "Run first: stunet experiment run figure4"),
    ],
)
def test_what_cannot_be_done_is_said(stunet, capsys, words, said):
    assert stunet("experiment", *words) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_a_mini_without_data_says_where_they_come_from(stunet, capsys, monkeypatch):
    monkeypatch.delenv("STUNET_SHARED", raising=False)
    assert stunet("experiment", "run", "table7", "--profile", "mini") == 2
    assert "--data hippocampus=FOLDER" in capsys.readouterr().err
