"""`stunet dataset`: exit codes, what goes to stdout, and the road from an archive to folds to train on."""

import json

import pytest

from tests.datasets import published


@pytest.fixture
def archive(tmp_path):
    return published.flare22(tmp_path / "archive", 6)


def test_convert_check_subset(stunet, capsys, archive, tmp_path):
    assert stunet("dataset", "convert", "flare22", archive, "--id", 22, "--partial", "--json") == 0
    captured = capsys.readouterr()
    result = json.loads(captured.out)
    assert result["cases"] == {"train": 6, "val": 0, "test": 0} and result["next"] == "stunet prepare -d 22"
    assert "6 train cases were found, 50 were published" in captured.err
    raw = tmp_path / "stunet_home" / "raw" / "Dataset022_FLARE22"
    assert result["folder"] == str(raw)

    assert stunet("dataset", "check", "-d", 22, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["cases"] == 6 and report["problems"] == []
    assert (report["label_cases"]["liver"], report["label_cases"]["spleen"]) == (6, 0)

    assert stunet("dataset", "subset", "-d", 22, "--cases", 2, 4, "--json") == 0
    drawn = json.loads(capsys.readouterr().out)
    assert drawn["validation"] == 1 and {fold: len(cases) for fold, cases in drawn["folds"].items()} == {"1": 2, "2": 4}
    assert len(json.loads((raw / "splits_final.json").read_text())) == 3


def test_other_numbers_than_published_need_a_word(stunet, capsys, archive, tmp_path):
    assert stunet("dataset", "convert", "flare22", archive, "--id", 22) == 2
    said = capsys.readouterr()
    assert said.out == "" and "6 train cases were found, 50 were published" in said.err and "--partial" in said.err
    assert not (tmp_path / "stunet_home").exists()


def test_a_bad_case_is_named_and_the_exit_code_says_so(stunet, capsys, archive, tmp_path):
    (archive / "Training" / "FLARE22_LabeledCase50" / "labels" / "FLARE22_Tr_0003.nii.gz").write_bytes(b"")
    to = tmp_path / "elsewhere"
    assert stunet("dataset", "convert", "flare22", archive, "--id", 22, "--to", to, "--partial") == 2
    captured = capsys.readouterr()
    assert "stunet: FLARE22_Tr_0003: " in captured.err and "is empty" in captured.err
    assert "5 train" in captured.out
    assert (to / "Dataset022_FLARE22" / "dataset.json").is_file()


def test_problems_of_a_dataset(stunet, capsys, archive, tmp_path):
    stunet("dataset", "convert", "flare22", archive, "--id", 22, "--partial")
    (tmp_path / "stunet_home" / "raw" / "Dataset022_FLARE22" / "labelsTr" / "FLARE22_Tr_0002.nii.gz").unlink()
    capsys.readouterr()
    assert stunet("dataset", "check", "-d", "Dataset022_FLARE22") == 2
    captured = capsys.readouterr()
    assert "stunet: FLARE22_Tr_0002: there is no label map." in captured.err
    assert "6 cases: 1 problems" in captured.out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("convert", "flare22", "nowhere", "--id", 1), "has no labels"),
        (("check", "-d", 5), "no folder Dataset005_"),
        (("subset", "-d", 5, "--cases", 10), "no folder Dataset005_"),
        (("convert", "nonsense", "nowhere", "--id", 1), "nonsense"),
    ],
)
def test_what_is_not_there(stunet, capsys, words, sentence):
    assert stunet("dataset", *words) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and sentence in captured.err
