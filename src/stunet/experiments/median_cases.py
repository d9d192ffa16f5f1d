"""Which validation cases Figure 3 shows, chosen by their scores."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from stunet.datasets.raw import DESCRIPTION, label_values, read_dataset_description, training_files
from stunet.experiments.experiment import ExperimentRun
from stunet.experiments.panel_cases import PanelCase
from stunet.experiments.results import Measurement
from stunet.experiments.training_cases import fold_of
from stunet.experiments.training_run import TrainingRun, run_folder


def median_cases(
    runs: Sequence[ExperimentRun],
    measurements: Sequence[Measurement],
    folder: Path,
    systems: Sequence[str],
    datasets: Sequence[str],
) -> list[PanelCase]:
    """For each dataset the case in the middle, by its mean DSC over the systems: neither a lucky one nor the worst.

    Of an even number of cases it is the lower one in the middle.

    Args:
        runs: those that are done; what is no training is left out.
        measurements: theirs, with the DSC of each case; a target of a dataset's name is the mean of its labels.
        folder: of the experiment.
        systems: that are shown, in this order; one that was not run is left out.
        datasets: names of the choices of cases, a row each; one that was not run is left out.
    """
    rows = []
    for dataset in datasets:
        shown = _trainings(runs, systems, dataset)
        case = _median_case([m for m in measurements if m.system in systems and m.target == dataset])
        if case is not None and shown and (folder / "raw" / shown[0].cases.folder_name / DESCRIPTION).is_file():
            rows.append(_row(case, shown, folder))
    return rows


def _trainings(runs: Sequence[ExperimentRun], systems: Sequence[str], dataset: str) -> list[TrainingRun]:
    """Those on a dataset, in the order of the systems."""
    trainings = [run for run in runs if isinstance(run, TrainingRun) and run.cases.name == dataset]
    return [run for system in systems for run in trainings if run.system == system]


def _median_case(measurements: Sequence[Measurement]) -> str | None:
    """The case in the middle, of those that all measurements have a value for."""
    shared = set.intersection(*(set(m.cases) for m in measurements)) if measurements else set()
    scores = []
    for case in shared:
        values = [value for m in measurements if (value := m.cases[case]) is not None]
        if len(values) == len(measurements):
            scores.append((mean(values), case))
    return sorted(scores)[(len(scores) - 1) // 2][1] if scores else None


def _row(case: str, runs: Sequence[TrainingRun], folder: Path) -> PanelCase:
    dataset = folder / "raw" / runs[0].cases.folder_name
    description = read_dataset_description(dataset)
    ending = description["file_ending"]
    files = training_files(dataset, ending)[case]
    predictions = {}
    for run in runs:
        fold = fold_of(run.fraction, dataset)
        found = list(run_folder(folder, run.key).glob(f"{dataset.name}/*/fold_{fold}/validation/{case}{ending}"))
        if found:
            predictions[run.system] = found[0]
    names = {label: name for label, name in label_values(description).items() if label > 0}
    title = runs[0].cases.name
    return PanelCase(case, title, files["0000"], files["label"], predictions, names, target=title)
