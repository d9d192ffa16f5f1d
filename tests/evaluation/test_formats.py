import csv
import json
from pathlib import Path

import pytest

from stunet.errors import UserError
from stunet.evaluation.formats import WRITERS, as_csv, as_latex, as_markdown, check_report_path, write_report
from stunet.evaluation.result import conclude
from tests.evaluation.samples import report, result


def test_csv_has_every_score():
    rows = list(csv.DictReader(as_csv(result()).splitlines()))
    assert len(rows) == 2 * 3 * 3
    assert rows[0] == {"system": "ours", "case": "s1", "label": "liver", "DSC": "0.91", "HD95 (mm)": "4.01"}
    absent = [row for row in rows if row["label"] == "aorta"]
    assert len(absent) == 6 and all(row["DSC"] == "" for row in absent)
    assert float(rows[-2]["HD95 (mm)"]) == 5.0 and rows[-2]["system"] == "theirs_1"


def test_markdown():
    text = as_markdown(result())
    assert "| liver | 0.8600 [0." in text and "| aorta | absent | absent |" in text
    assert "| group: organs |" in text and "| mean | 0.7100 [" in text
    assert "| mean | 0.7100 | 0.7000 | +0.0100 [+0.0100, +0.0100] | 0.250 |" in text
    assert "| s2 | 0.3600 | kidney_left | 0.0100 |" in text
    assert "if absent from one, it counts 0." in text and "200 resamples, seed 0" in text and "Holm" in text


def test_latex_balances_and_escapes():
    text = as_latex(result())
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 4
    assert r"kidney\_left" in text and "kidney_left" not in text.replace(r"kidney\_left", "")
    assert r"95\% interval" in text
    body = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in body} == {2, 3, 4}


def test_long_tables_run_over_pages():
    many = report()
    names = {label: f"label_{label}" for label in range(1, 60)}
    text = as_latex(conclude("ours", type(many)(names, many.cases, many.config)))
    assert r"\begin{longtable}{lrr}" in text and r"\end{longtable}" in text


@pytest.mark.parametrize("suffix", WRITERS)
def test_files(tmp_path, suffix):
    path = tmp_path / f"report{suffix.upper()}"
    write_report(result(), path)
    assert "liver" in path.read_text() and [p.name for p in tmp_path.iterdir()] == [path.name]


def test_json_is_the_dictionary(tmp_path):
    write_report(result(), tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == result().to_dict()


def test_paths_that_cannot_be_right(tmp_path):
    with pytest.raises(UserError, match=r"report\.xlsx: a report ends in \.json, \.csv, \.md, \.tex"):
        check_report_path(tmp_path / "report.xlsx")
    with pytest.raises(UserError, match="cannot be written to"):
        check_report_path(Path("/proc/none/report.json"))
    with pytest.raises(UserError, match="is a folder"):
        (tmp_path / "report.json").mkdir()
        check_report_path(tmp_path / "report.json")


def test_a_missing_folder_is_made(tmp_path):
    write_report(result(), tmp_path / "new" / "er" / "report.json")
    assert (tmp_path / "new" / "er" / "report.json").is_file()
