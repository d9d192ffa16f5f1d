"""Names with special characters of a format are shown unchanged."""

import csv
import io
import re
from pathlib import Path

import pytest

from stunet.evaluation.text_tables import TextTable, to_csv, to_latex, to_markdown

HOSTILE = (
    "a|b",
    "x & y",
    "kidney_left",
    "_left_",
    "95%",
    "#1",
    "C:\\data",
    '"quoted"',
    "=1+1",
    "a\nb",
    "<b>",
    "nnU-Net*",
)


def table_of(*names, **more):
    return TextTable("a|b *c* 50%", ("name", "DSC"), tuple((name, "-0.10 [-0.20, +0.30]") for name in names), **more)


def unescaped(cell):
    return re.sub(r"\\(.)", r"\1", cell)


@pytest.mark.parametrize("name", HOSTILE)
def test_markdown_has_two_cells_in_one_line_whatever_the_name(name):
    (line,) = to_markdown([table_of(name)]).splitlines()[4:]
    cells = re.split(r"(?<!\\) \| (?!\\)", line.removeprefix("| ").removesuffix(" |"))
    assert [unescaped(cell) for cell in cells] == [name.replace("\n", " "), "-0.10 [-0.20, +0.30]"]


def test_markdown_escapes_only_what_would_be_markup():
    def shown(name):
        return to_markdown([table_of(name)]).splitlines()[4].split(" | -0.10")[0].removeprefix("| ")

    names = ("a|b", "nnU-Net*", "_left_", "kidney_left", "< 0.001", "<b>", "C:\\x", "&lt;")
    assert [shown(name) for name in names] == [
        "a\\|b", "nnU-Net\\*", "\\_left\\_", "kidney_left", "< 0.001", "\\<b>", "C:\\\\x", "\\&lt;"
    ]  # fmt: skip
    assert to_markdown([table_of("a")]).startswith("**a\\|b \\*c\\* 50%**\n\n| name | DSC |\n| --- | ---: |\n")


@pytest.mark.parametrize("name", HOSTILE)
def test_latex_has_one_ampersand_and_no_comment_whatever_the_name(name):
    lines = to_latex([table_of(name)], ["a\nb"]).splitlines()
    (row,) = (line for line in lines if "0.10" in line)
    assert row.endswith(r"$-$0.10 [$-$0.20, $+$0.30] \\")
    assert len(re.findall(r"(?<!\\)&", row)) == 1 and not re.search(
        r"(?<!\\)[%#]|[<>]|\n", row.replace("$<$", "").replace("$>$", "")
    )
    assert row.count("{") == row.count("}")
    assert lines[0] == "% a b" and [line for line in lines[1:] if line.startswith("%")] == []


def test_latex_sets_the_names():
    rows = to_latex([table_of("a_b & 50% #1 {x} ~^\\ <5>", "[x]", "*")]).splitlines()[7:10]
    assert [row.split(" & $-$")[0] for row in rows] == [
        r"a\_b \& 50\% \#1 \{x\} \textasciitilde{}\textasciicircum{}\textbackslash{} $<$5$>$", "{[}x]", "{*}"
    ]  # fmt: skip


def test_notes_stand_below_in_markdown_and_in_the_caption_in_latex():
    table = table_of("liver", notes=("First_.", "50%."))
    assert to_markdown([table], ["Of *all*."]).endswith("|\n\n- First\\_.\n- 50%.\n\nOf \\*all\\*.\n")
    assert r"\caption{a|b *c* 50\%. First\_. 50\%.}" in to_latex([table])


@pytest.mark.parametrize("name", HOSTILE)
def test_csv_gives_back_every_name(name):
    text = to_csv(("name", "DSC"), [(name, 0.1), (None, None)])
    assert list(csv.reader(io.StringIO(text))) == [["name", "DSC"], [name, "0.1"], ["", ""]]
    assert text.startswith("name,DSC\n")


PAGES = Path(__file__).parents[2] / "docs" / "experiments"


@pytest.mark.parametrize("page", sorted(PAGES.glob("*[0-9]*.md")), ids=lambda page: page.stem)
def test_the_pages_of_experiments_are_written_so(page):
    text = page.read_text(encoding="utf-8")
    title, header, marks, body, notes = re.search(
        r"^\*\*(.*)\*\*\n\n(\|.*)\n(\|[-:| ]+)\n((?:\|.*\n)+)\n((?:- .*\n)+)", text, re.MULTILINE
    ).groups()
    columns, *rows = (
        tuple(unescaped(cell.strip()) for cell in line.strip("|").split("|")) for line in (header, *body.splitlines())
    )
    notes = tuple(note.removeprefix("- ") for note in notes.splitlines())
    table = TextTable(title, columns, tuple(rows), marks.count("---") - marks.count("---:"), notes)
    assert to_markdown([table]) in text
