"""Turn a results file into a figure, drawn by `stunet.pictures`."""

from collections.abc import Callable, Mapping
from pathlib import Path

from stunet.errors import UnknownNameError
from stunet.experiments.experiment import MINI_REMARK
from stunet.experiments.figure_points import bars_of, bubbles_of, curves_of, dsc_of_case
from stunet.experiments.panel_cases import PanelCase, panel_cases_of
from stunet.experiments.results import Results, file_name_of, read_results
from stunet.pictures.bars import draw_bars
from stunet.pictures.bubbles import draw_bubbles
from stunet.pictures.curves import draw_curves
from stunet.pictures.panels import REFERENCE, PanelRow, draw_panels, read_row
from stunet.pictures.style import Figure, figure_style, save_figure

STAMPS = {"full": "", "mini": MINI_REMARK.replace(". ", ".\n", 1)}
"""The title above the figure of a profile. Other profiles are stamped with their name."""


def plot(results_path: Path, output_folder: Path) -> list[Path]:
    """Draw the figure of a results file.

    Args:
        results_path: of the results file.
        output_folder: gets a PDF and a PNG file, see `file_name_of`.

    Returns:
        The files.

    Raises:
        UserError: the results file does not exist, its experiment has no figure, or the folder cannot be written.
    """
    results = read_results(results_path)
    if results.experiment not in FIGURES:
        known = ", ".join(FIGURES)
        raise UnknownNameError(
            f"There is no figure of {results.experiment}; there is one of {known}. Its results are a table."
        )
    with figure_style():
        figure = FIGURES[results.experiment](results, results_path.parent)
        return save_figure(figure, output_folder, file_name_of(results))


def draw_transfer(results: Results, path: Path) -> list[Path]:
    """DSC against the number of cases (setting `cases`) for each system: every seed (setting `seed`) and their mean.

    Args:
        results: measurements of DSC.
        path: of the figure. Its suffix is replaced, since both a PDF and a PNG file are written.

    Returns:
        The files.

    Raises:
        UserError: there are no such measurements, or the folder cannot be written.
    """
    with figure_style():
        return save_figure(draw_transfer_curve(results), path.parent, path.stem)


def draw_table3(results: Results) -> Figure:
    """Figure 1, which shows the results of Table 3: DSC against computation."""
    return draw_bubbles(bubbles_of(results), _stamp_of(results))


def draw_table5(results: Results, folder: Path) -> Figure:
    """Figure 3, which shows cases of Table 5. Relative paths of their files start at `folder`."""
    rows = [row_of(case, results) for case in panel_cases_of(results, folder)]
    return draw_panels(rows, _stamp_of(results))


def row_of(case: PanelCase, results: Results) -> PanelRow:
    """The slices of a case and its scores.

    Raises:
        UserError: files cannot be read, or label files are on another grid than their scan.
    """
    labels = {REFERENCE: case.reference, **case.predictions}
    return read_row(case.title, case.image, labels, case.names, dsc_of_case(results, case.case, case.target))


def draw_data_size(results: Results) -> Figure:
    """Figure 4: DSC of each system against the fraction of training cases (setting `fraction`, 0 to 1)."""
    curves = curves_of(results, "fraction", scale=100)
    return draw_curves(curves, "Share of the training cases", " %", _stamp_of(results))


def draw_transfer_curve(results: Results) -> Figure:
    """DSC against the number of cases (setting `cases`), pre-trained and from scratch: each seed and their mean.

    Each dataset (setting `dataset`) has its own panel.
    """
    return draw_curves(curves_of(results, "cases"), "Training cases", stamp=_stamp_of(results))


def _stamp_of(results: Results) -> str:
    return STAMPS.get(results.profile, f"Profile {results.profile}")


FIGURES: Mapping[str, Callable[[Results, Path], Figure]] = {
    "figure1": lambda results, _: draw_table3(results),
    "table3": lambda results, _: draw_table3(results),
    "figure3": draw_table5,
    "table5": draw_table5,
    "figure4": lambda results, _: draw_data_size(results),
    "figure5": lambda results, _: draw_bars(bars_of(results), _stamp_of(results)),
    "transfer": lambda results, _: draw_transfer_curve(results),
}
"""Experiment -> function that draws its figure from results and the folder of the results file."""
