"""A recipe becomes a results file, run by run; what was done is not done again."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from stunet.errors import UserError
from stunet.experiments.panel_cases import PICTURES
from stunet.experiments.recipe import Profile, Recipe, Run, Workplace
from stunet.experiments.results import Measurement, Results, measurement_of, provenance_now, write_results
from stunet.files import home_folder, made_folder, read_json_object, write_json

RESULTS_NAME = "results.json"

OnRun = Callable[[str, int, int], None]
"""Told the key of the run that begins, the number of runs done, and of all."""


@dataclass(frozen=True)
class DoneRun:
    """What is kept of a run: its measurements, in the order of its table, and the seconds that it took."""

    measurements: tuple[Measurement, ...]
    seconds: float


def experiment_folder(recipe: Recipe, profile: Profile) -> Path:
    """Where an experiment is kept unless another place is given: `STUNET_HOME/experiments/table5-mini`."""
    return home_folder() / "experiments" / f"{recipe.name}-{profile}"


def run_recipe(
    recipe: Recipe,
    profile: Profile,
    workplace: Workplace,
    only: Sequence[str] = (),
    on_run: OnRun = lambda key, done, total: None,
) -> Results:
    """Do the runs of a recipe, or those that are left, and write the results file after each.

    Args:
        recipe: what to do.
        profile: "full" or "mini".
        workplace: where, with which data and GPUs; `resume` keeps the runs that are done.
        only: patterns of keys ("stunet-b*"); () are all runs whose data were given. The others are named in the
            remarks.
        on_run: told of each run that begins.

    Returns:
        The results of all runs that are done, earlier ones included.

    Raises:
        UserError: no run to do, data that are missing or bad, runs that are done already and not to be resumed.
    """
    chosen = _chosen(recipe, profile, workplace, only)
    done = _done_runs(recipe.runs(profile), workplace.folder)
    repeated = [run.key for run in chosen if run.key in done]
    if repeated and not workplace.resume:
        raise UserError(
            f"{workplace.folder} already holds the results of {', '.join(repeated[:4])}. Go on with --resume, or "
            "choose another folder with -o."
        )
    results = _write(recipe, profile, workplace, done)
    for number, run in enumerate(chosen):
        if run.key in done:
            continue
        on_run(run.key, number, len(chosen))
        start = time.perf_counter()
        measurements = tuple(run.measure(workplace))
        done[run.key] = DoneRun(measurements, round(time.perf_counter() - start, 1))
        _keep(run, done[run.key], workplace.folder)
        results = _write(recipe, profile, workplace, done)
    return results


def _chosen(recipe: Recipe, profile: Profile, workplace: Workplace, only: Sequence[str]) -> list[Run]:
    """The runs that `only` names, or else those whose data were given.

    Raises:
        UserError: there is none, or data of a run that `only` names were not given.
    """
    runs = recipe.runs(profile)
    asked = [run for run in runs if not only or any(fnmatch(run.key, pattern) for pattern in only)]
    if not asked:
        raise UserError(f"No run of {recipe.name} is called {', '.join(only)}. They are: {_keys(runs)}.")
    missing = dict.fromkeys(name for run in asked for name in run.datasets if name not in workplace.data)
    possible = [run for run in asked if not missing.keys() & set(run.datasets)]
    is_worth_while = not missing or any(run.datasets for run in possible)
    if not is_worth_while or (only and missing):
        options = " ".join(f"--data {name}=FOLDER" for name in missing)
        raise UserError(
            f"{recipe.name} ({profile}) needs data: {options}. `stunet experiment show {recipe.name} --profile "
            f"{profile}` says what they are, and --only chooses some of its runs."
        )
    return possible


def _keys(runs: Sequence[Run]) -> str:
    return ", ".join(run.key for run in runs)


def _write(recipe: Recipe, profile: Profile, workplace: Workplace, done: Mapping[str, DoneRun]) -> Results:
    runs = recipe.runs(profile)
    finished = [run for run in runs if run.key in done]
    kept = [done[run.key] for run in finished]
    measurements = [measurement for run in kept for measurement in run.measurements]
    left = [run for run in runs if run.key not in done]
    remarks = (*recipe.all_remarks(profile), f"Not done: {_keys(left)}.") if left else recipe.all_remarks(profile)
    settings: dict[str, Any] = {
        "data": {name: folder.name for name, folder in sorted(workplace.data.items())},
        "gpus": workplace.gpus,
        "seconds": {run.key: done[run.key].seconds for run in finished},
    }
    pictures = recipe.pictures(finished, measurements, workplace.folder)
    if pictures:
        settings[PICTURES] = [picture.to_setting(workplace.folder) for picture in pictures]
    results = Results(
        recipe.name,
        profile,
        provenance_now(settings, sum(run.seconds for run in kept)),
        (*measurements, *recipe.derive(measurements)),
        remarks,
    )
    write_results(workplace.folder / RESULTS_NAME, results)
    return results


def _run_file(folder: Path, key: str) -> Path:
    return folder / "runs" / f"{key}.json"


def _keep(run: Run, done: DoneRun, folder: Path) -> None:
    path = _run_file(folder, run.key)
    made_folder(path.parent)
    write_json(path, {"run": repr(run), **asdict(done)})


def _done_runs(runs: Sequence[Run], folder: Path) -> dict[str, DoneRun]:
    """The runs that were done in this folder before.

    Raises:
        UserError: the record of one is damaged, or of a run that was another one then.
    """
    done = {}
    for run in runs:
        path = _run_file(folder, run.key)
        if path.is_file():
            done[run.key] = _read_done(run, path, read_json_object(path))
    return done


def _read_done(run: Run, path: Path, content: dict[str, Any]) -> DoneRun:
    if content.get("run") != repr(run):
        raise UserError(
            f"{path} is of another version of this experiment. Remove it, or choose another folder with -o."
        )
    try:
        measurements = tuple(measurement_of(entry) for entry in content["measurements"])
        return DoneRun(measurements, float(content["seconds"]))
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is damaged ({error}). Remove it; the run will be done again.") from error
