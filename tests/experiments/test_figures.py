"""Figures are written from a results file alone, for print, and say what they show."""

import re
from dataclasses import replace

import pytest
from matplotlib.image import imread

from stunet.errors import UserError
from stunet.experiments.figures import FIGURES, draw_data_size, draw_table3, draw_transfer, plot
from stunet.experiments.results import write_results
from stunet.pictures.style import PRINT_DPI, figure_style, save_figure
from tests.experiments import invented

RESULTS = {
    "figure1": invented.table3,
    "table3": invented.table3,
    "figure4": invented.data_size,
    "figure5": invented.experts,
    "transfer": invented.transfer,
}


def results_named(name, folder):
    if name in ("figure3", "table5"):
        return replace(invented.write_pictures(folder)[0], experiment=name)
    return replace(RESULTS[name]("mini"), experiment=name)


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_a_vector_file_with_embedded_letters_and_a_picture(name, tmp_path):
    write_results(tmp_path / "results.json", results_named(name, tmp_path))
    files = plot(tmp_path / "results.json", tmp_path / "figures")
    assert [file.name for file in files] == [f"{name}_mini.pdf", f"{name}_mini.png"]
    pdf = files[0].read_bytes()
    assert b"/FontFile2" in pdf and b"/Subtype /TrueType" in pdf + pdf.replace(b"CIDFontType2", b"TrueType")
    assert b"/Type3" not in pdf
    width_inches = float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", pdf).group(1)) / 72
    assert imread(files[1]).shape[1] == pytest.approx(width_inches * PRINT_DPI, abs=1)
    assert width_inches <= 7.2 + 1e-6
    assert plot(tmp_path / "results.json", tmp_path / "again")[0].read_bytes() == pdf


def test_the_transfer_curve_of_results_in_memory(tmp_path):
    files = draw_transfer(invented.transfer(), tmp_path / "curves" / "transfer.png")
    assert files == [tmp_path / "curves" / "transfer.pdf", tmp_path / "curves" / "transfer.png"]
    assert all(file.stat().st_size for file in files)


def test_tables_without_a_figure_are_refused(tmp_path):
    write_results(tmp_path / "results.json", replace(invented.table3(), experiment="table2"))
    with pytest.raises(UserError, match=r"no figure of table2.*figure1"):
        plot(tmp_path / "results.json", tmp_path)


@pytest.mark.parametrize("draw", [draw_table3, draw_data_size])
def test_mini_is_stamped_and_shows_no_numbers_of_the_paper(draw):
    results = invented.table3() if draw is draw_table3 else invented.data_size()
    printed = replace(results, measurements=tuple(replace(m, paper=m.value) for m in results.measurements))
    full, mini = draw(printed), draw(replace(printed, profile="mini"))
    assert full.get_suptitle() == ""
    assert "not the paper's claim" in mini.get_suptitle()
    shown = {figure: any("paper" in line.get_label() for line in figure.axes[0].lines) for figure in (full, mini)}
    assert shown == {full: True, mini: False}


def test_what_changed_matplotlibs_settings_before_changes_no_figure(tmp_path):
    from matplotlib import rc_context

    def bytes_of(folder):
        with figure_style():
            return save_figure(draw_data_size(invented.data_size()), folder, "f")[0].read_bytes()

    plain = bytes_of(tmp_path / "a")
    with rc_context({"font.size": 30, "axes.grid": False, "savefig.bbox": "tight"}):
        assert bytes_of(tmp_path / "b") == plain


def test_other_profiles_are_named():
    results = replace(invented.data_size(), profile="night")
    assert draw_data_size(results).get_suptitle() == "Profile night"
