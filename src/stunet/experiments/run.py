"""Run an experiment and write its results file. Finished runs are not repeated."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stunet.errors import FileError, UnknownNameError, UserError, listed
from stunet.experiments.experiment import Experiment, ExperimentRun, Profile, Workplace, datasets_of
from stunet.experiments.panel_cases import PICTURES
from stunet.experiments.results import Measurement, Results, measurement_of, provenance_now, write_results
from stunet.files import home_folder, made_folder, read_json_object, write_json

RESULTS_NAME = "results.json"

OnRun = Callable[[str, int, int], None]
"""Called with the key of the run that starts, the number of runs done, and the total."""


@dataclass(frozen=True)
class DoneRun:
    """The record of a run: its measurements, in table order, and its duration in seconds."""

    measurements: tuple[Measurement, ...]
    seconds: float


def experiment_folder(experiment: Experiment, profile: Profile) -> Path:
    """The default folder of an experiment: `STUNET_HOME/experiments/table5-mini`."""
    return home_folder() / "experiments" / f"{experiment.name}-{profile}"


def run_experiment(
    experiment: Experiment,
    profile: Profile,
    workplace: Workplace,
    only: Sequence[str] = (),
    on_run: OnRun = lambda key, done, total: None,
) -> Results:
    """Do the unfinished runs of an experiment, and write the results file after each.

    Args:
        experiment: what to do.
        profile: "full" or "mini".
        workplace: folder, data and GPUs; `resume` keeps finished runs.
        only: patterns of keys ("stunet-b*"). () means all runs whose data are given; the others are named in the
            remarks.
        on_run: called when a run starts.

    Returns:
        The results of all finished runs, including earlier ones.

    Raises:
        UserError: there is no run to do, data are missing or bad, or finished runs exist but `resume` is not set.
    """
    chosen = _chosen(experiment, profile, workplace, only)
    records = {run.key: workplace.folder / "runs" / f"{run.key}.json" for run in experiment.runs(profile)}
    done = {
        run.key: _read_done(run, records[run.key]) for run in experiment.runs(profile) if records[run.key].is_file()
    }
    repeated = [run.key for run in chosen if run.key in done]
    if repeated and not workplace.resume:
        raise UserError(
            f"{workplace.folder} already contains the results of {listed(repeated, 4)}. Continue with --resume, or "
            "choose another folder with -o."
        )
    results = _write(experiment, profile, workplace, done)
    for number, run in enumerate(chosen):
        if run.key in done:
            continue
        on_run(run.key, number, len(chosen))
        start = time.perf_counter()
        measurements = tuple(run.measure(workplace))
        done[run.key] = DoneRun(measurements, round(time.perf_counter() - start, 1))
        made_folder(records[run.key].parent)
        write_json(records[run.key], {"run": repr(run), **asdict(done[run.key])})
        results = _write(experiment, profile, workplace, done)
    return results


def _chosen(experiment: Experiment, profile: Profile, workplace: Workplace, only: Sequence[str]) -> list[ExperimentRun]:
    """The runs that match `only`, or by default those whose data are given.

    Raises:
        UserError: there is none, or data are missing for a run that `only` selects.
    """
    asked = _named(experiment, profile, only)
    missing = [name for name in datasets_of(asked) if name not in workplace.data]
    possible = [run for run in asked if set(missing).isdisjoint(run.datasets)]
    if missing and (only or not datasets_of(possible)):
        options = " ".join(f"--data {name}=FOLDER" for name in missing)
        raise UserError(
            f"{experiment.name} ({profile}) needs data: {options}. `stunet experiment show {experiment.name} --profile "
            f"{profile}` says what they are, and --only chooses some of its runs."
        )
    return possible


def _named(experiment: Experiment, profile: Profile, only: Sequence[str]) -> list[ExperimentRun]:
    """The runs whose keys match one of the patterns; all if there are no patterns."""
    runs = experiment.runs(profile)
    named = [run for run in runs if not only or any(fnmatch(run.key, pattern) for pattern in only)]
    if not named:
        raise UnknownNameError(f"No run of {experiment.name} is called {', '.join(only)}. They are: {_keys(runs)}.")
    return named


def _keys(runs: Sequence[ExperimentRun]) -> str:
    return ", ".join(run.key for run in runs)


def _write(experiment: Experiment, profile: Profile, workplace: Workplace, done: Mapping[str, DoneRun]) -> Results:
    runs = experiment.runs(profile)
    finished = [run for run in runs if run.key in done]
    measurements = [measurement for run in finished for measurement in done[run.key].measurements]
    seconds = {run.key: done[run.key].seconds for run in finished}
    data = {name: folder.name for name, folder in sorted(workplace.data.items())}
    settings: dict[str, Any] = {"data": data, "gpus": workplace.gpus, "seconds": seconds}
    pictures = experiment.pictures(finished, measurements, workplace.folder)
    if pictures:
        settings[PICTURES] = [picture.to_setting(workplace.folder) for picture in pictures]
    results = Results(
        experiment.name,
        profile,
        provenance_now(settings, sum(seconds.values())),
        (*measurements, *experiment.derive(measurements)),
        (*experiment.all_remarks(profile), *_not_done(runs, done)),
    )
    write_results(workplace.folder / RESULTS_NAME, results)
    return results


def _not_done(runs: Sequence[ExperimentRun], done: Mapping[str, DoneRun]) -> list[str]:
    left = [run for run in runs if run.key not in done]
    return [f"Not done: {_keys(left)}."] if left else []


def _read_done(run: ExperimentRun, path: Path) -> DoneRun:
    """Read a run that was finished in this folder before.

    Raises:
        UserError: the record is damaged, or the run was defined differently.
    """
    content = read_json_object(path)
    if _without_class_names(str(content.get("run"))) != _without_class_names(repr(run)):
        raise FileError(
            f"{path} is of another version of this experiment. Remove it, or choose another folder with -o."
        )
    try:
        measurements = tuple(measurement_of(entry) for entry in content["measurements"])
        return DoneRun(measurements, float(content["seconds"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} is damaged ({error}). Remove it; the run will be done again.") from error


def _without_class_names(text: str) -> str:
    """The description of a run without our class names, which may change between versions.

    >>> _without_class_names("Run(key='a', cases=Cases(number=4), targets=(Target(name='Fat (CT)'),))")
    "(key='a', cases=(number=4), targets=((name='Fat (CT)'),))"
    """
    return re.sub(r"(^|[=(]|, )[A-Z]\w*\(", r"\1(", text)
