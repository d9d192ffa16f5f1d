"""Tables hold the paper's numbers as it prints them, ours beside them, and what belongs to be read with both."""

import csv
import io
from dataclasses import replace

import pytest

from stunet.errors import UserError
from stunet.evaluation.text_tables import to_latex, to_markdown
from stunet.experiments.result_tables import csv_of, table_of, write_tables
from stunet.experiments.results import Measurement, write_results
from tests.experiments.invented import GROUPS, TABLE3, data_size, results_of, table3


def cells_of(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_three_tables_are_written(tmp_path):
    write_results(tmp_path / "results.json", table3("mini"))
    files = write_tables(tmp_path / "results.json", tmp_path / "tables")
    assert [file.name for file in files] == [f"table3_mini.{kind}" for kind in ("md", "csv", "tex")]
    assert "profile mini" in files[0].read_text()


def test_table_3_is_the_papers_with_ours_and_the_difference_below():
    measured = table3()
    ours = replace(measured, measurements=tuple(replace(m, value=m.value + 0.00126) for m in measured.measurements))
    table = table_of(ours)
    assert table.columns[2:] == ("parameters (M)", "mult-adds (T)", *(f"{group}, DSC (%)" for group in GROUPS))
    assert len(table.rows) == 3 * len(TABLE3)
    for (system, numbers), start in zip(TABLE3.items(), range(0, 36, 3), strict=True):
        paper, our, difference = table.rows[start : start + 3]
        assert paper == (system, "paper", *(f"{number:.2f}" for number in numbers))
        assert our == (system, "ours", *(f"{n:.2f}" for n in numbers[:2]), *(f"{n + 0.126:.2f}" for n in numbers[2:]))
        assert difference == (system, "difference", "0.00", "0.00", *["+0.13"] * 6)


def test_few_columns_have_the_three_numbers_side_by_side():
    measurements = [
        Measurement("STU-Net-B", "parameters (M)", 58.2634, paper=58.26, paper_decimals=2),
        Measurement("STU-Net-B", "mult-adds (T)", 0.4965, paper=0.51, paper_decimals=2),
        Measurement("STU-Net-B", "MACs (T)", 0.50621),
        Measurement("STU-Net-H", "parameters (M)", None, paper=1457.33, paper_decimals=2),
    ]
    table = table_of(results_of("table2", measurements))
    columns = ("paper", "ours", "difference")
    assert table.columns == (
        "system", "parameters (M): paper", *columns[1:], "mult-adds (T): paper", *columns[1:], "MACs (T)"
    )  # fmt: skip
    assert table.rows == (
        ("STU-Net-B", "58.26", "58.26", "0.00", "0.51", "0.50", "-0.01", "0.5062"),
        ("STU-Net-H", "1457.33", "-", "-", "-", "-", "-", "-"),
    )


def test_many_targets_lie_below_each_other():
    targets = [f"dataset {i}" for i in range(14)]
    measurements = [
        Measurement(system, "DSC", 0.8, target, paper=0.81, paper_decimals=4, source="Table 4")
        for system in ("nnU-Net", "STU-Net-B")
        for target in targets
    ]
    table = table_of(results_of("table4", measurements))
    assert table.columns == ("target", "nnU-Net: paper", "ours", "difference", "STU-Net-B: paper", "ours", "difference")
    assert [row[0] for row in table.rows] == targets
    assert table.rows[0][1:] == ("81.00", "80.00", "-1.00") * 2


def test_settings_have_columns_and_what_the_paper_does_not_print_has_one_number():
    table = table_of(data_size())
    assert table.columns == ("system", "fraction", "all")
    assert [row[1] for row in table.rows[:5]] == ["0.05", "0.1", "0.2", "0.5", "1"]
    assert table.rows[4] == ("STU-Net-S", "1", "83.74")


def test_two_numbers_for_one_place_are_refused():
    with pytest.raises(UserError, match="two numbers for one cell: s, all, DSC"):
        table_of(results_of("x", [Measurement("s", "DSC", value, "all") for value in (0.1, 0.2)]))


def test_results_without_measurements_are_refused():
    with pytest.raises(UserError, match="no measurements"):
        table_of(results_of("x", []))


def test_markdown_is_a_table_with_title_above_and_remarks_below():
    results = replace(table3(), remarks=("A remark.",))
    lines = to_markdown([table_of(results)]).splitlines()
    body = [line for line in lines if line.startswith("|")]
    assert lines[0].startswith("**table3, profile full")
    assert {len(cells_of(line)) for line in body} == {10} and len(body) == 2 + 36
    assert cells_of(body[2]) == [
        "nnU-Net",
        "paper",
        "31.28",
        "0.54",
        "87.45",
        "86.97",
        "88.70",
        "85.05",
        "86.11",
        "86.76",
    ]
    assert cells_of(body[5])[0] == r"nnU-Net\*"
    assert lines[-3:] == [
        "- A remark.", "- Paper: Table 3.", "- Measured 2026-11-25 in 1 s with stunet 0.1.0."
    ]  # fmt: skip


def test_latex_escapes_what_it_would_read_as_commands():
    odd = Measurement("a_b & 50% #1", "DSC", 0.4, "kidney_left", paper=0.5, paper_decimals=4)
    lines = to_latex([table_of(results_of("x", [odd]))]).splitlines()
    assert r"a\_b \& 50\% \#1 & 50.00 & 40.00 & $-$10.00 \\" in lines
    assert r"\begin{tabular}{lrrr}" in lines
    assert sum(line.count("{") for line in lines) == sum(line.count("}") for line in lines)


def test_csv_keeps_all_digits():
    rows = list(csv.DictReader(io.StringIO(csv_of(data_size()))))
    for row, measurement in zip(rows, data_size().measurements, strict=True):
        assert float(row["ours"]) == measurement.value
        assert (row["system"], float(row["fraction"])) == (measurement.system, measurement.setting["fraction"])
        assert (row["paper"], row["difference"], row["cases"]) == ("", "", "57")
    first = next(csv.DictReader(io.StringIO(csv_of(table3()))))
    assert (first["paper"], first["difference"], first["agrees"]) == ("31.28", "0.0", "True")
