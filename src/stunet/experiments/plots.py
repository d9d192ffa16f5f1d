"""A results file becomes a figure. Of this room, only this file and those named `plots_*` import matplotlib."""

from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from stunet.errors import UserError
from stunet.experiments.panel_cases import panel_cases_of
from stunet.experiments.plots_bars import draw_bars
from stunet.experiments.plots_bubbles import draw_bubbles
from stunet.experiments.plots_curves import draw_data_size, draw_transfer_curve
from stunet.experiments.plots_panels import draw_panels
from stunet.experiments.plots_style import figure_style, save_figure
from stunet.experiments.results import Results, file_name_of, read_results

Draw = Callable[[Results, Path], Figure]
"""From results, and the folder where their file lies."""

FIGURES: Mapping[str, Draw] = {
    "figure1": lambda results, _: draw_bubbles(results),
    "table3": lambda results, _: draw_bubbles(results),
    "figure3": lambda results, folder: draw_panels(results, panel_cases_of(results, folder)),
    "table5": lambda results, folder: draw_panels(results, panel_cases_of(results, folder)),
    "figure4": lambda results, _: draw_data_size(results),
    "figure5": lambda results, _: draw_bars(results),
    "transfer": lambda results, _: draw_transfer_curve(results),
}
"""Experiment to what draws it. Table 3 holds what Figure 1 shows, and Table 5 what Figure 3 shows."""


def plot(results_path: Path, output_folder: Path) -> list[Path]:
    """Draw the figure of a results file.

    Args:
        results_path: of the results file.
        output_folder: gets a PDF and a PNG file, see `file_name_of`.

    Returns:
        The files.

    Raises:
        UserError: no results file, results of which there is no figure, or a folder that cannot be written.
    """
    results = read_results(results_path)
    if results.experiment not in FIGURES:
        known = ", ".join(FIGURES)
        raise UserError(
            f"There is no figure of {results.experiment}; there is one of {known}. Its results are a table."
        )
    with figure_style():
        figure = FIGURES[results.experiment](results, results_path.parent)
        return save_figure(figure, output_folder, file_name_of(results))


def draw_transfer(results: Results, path: Path) -> list[Path]:
    """DSC against the number of cases (setting `cases`), for each system; every seed (setting `seed`) and their mean.

    Args:
        results: measurements of DSC.
        path: of the figure; its suffix is replaced, since both a PDF and a PNG file are written.

    Returns:
        The files.

    Raises:
        UserError: no such measurements, or a folder that cannot be written.
    """
    with figure_style():
        return save_figure(draw_transfer_curve(results), path.parent, path.stem)
