"""Choose the validation cases of Figure 3 by their scores."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from stunet.experiments.experiment import ExperimentRun
from stunet.experiments.panel_cases import PanelCase
from stunet.experiments.results import Measurement
from stunet.experiments.training_cases import fold_of
from stunet.experiments.training_run import TrainingRun, run_folder
from stunet.plans.raw_dataset import DESCRIPTION, LABEL, read_raw_dataset


def median_cases(
    runs: Sequence[ExperimentRun],
    measurements: Sequence[Measurement],
    folder: Path,
    systems: Sequence[str],
    datasets: Sequence[str],
) -> list[PanelCase]:
    """For each dataset, the case with the median of the mean DSC over the systems: neither lucky nor the worst.

    For an even number of cases, the lower of the two middle cases.

    Args:
        runs: that are done; those that are not trainings are ignored.
        measurements: of these runs, with the DSC of each case; a target named after a dataset is the mean of its
            labels.
        folder: of the experiment.
        systems: to show, in this order; those that were not run are skipped.
        datasets: names of the case selections, one row each; those that were not run are skipped.
    """
    rows = []
    for dataset in datasets:
        shown = _trainings(runs, systems, dataset)
        case = _median_case([m for m in measurements if m.system in systems and m.target == dataset])
        if case is not None and shown and (folder / "raw" / shown[0].cases.folder_name / DESCRIPTION).is_file():
            rows.append(_row(case, shown, folder))
    return rows


def _trainings(runs: Sequence[ExperimentRun], systems: Sequence[str], dataset: str) -> list[TrainingRun]:
    """The trainings on a dataset, in the order of the systems."""
    trainings = [run for run in runs if isinstance(run, TrainingRun) and run.cases.name == dataset]
    return [run for system in systems for run in trainings if run.system == system]


def _median_case(measurements: Sequence[Measurement]) -> str | None:
    """The median case among those for which all measurements have a value."""
    shared = set.intersection(*(set(m.cases) for m in measurements)) if measurements else set()
    scores = []
    for case in shared:
        values = [value for m in measurements if (value := m.cases[case]) is not None]
        if len(values) == len(measurements):
            scores.append((mean(values), case))
    return sorted(scores)[(len(scores) - 1) // 2][1] if scores else None


def _row(case: str, runs: Sequence[TrainingRun], folder: Path) -> PanelCase:
    dataset = folder / "raw" / runs[0].cases.folder_name
    described = read_raw_dataset(dataset)
    files = described.training_files()[case]
    predictions = {}
    for run in runs:
        fold = fold_of(run.fraction, dataset)
        found = list(
            run_folder(folder, run.key).glob(f"{dataset.name}/*/fold_{fold}/validation/{case}{described.file_ending}")
        )
        if found:
            predictions[run.system] = found[0]
    title = runs[0].cases.name
    return PanelCase(case, title, files["0000"], files[LABEL], predictions, described.labels.names, target=title)
