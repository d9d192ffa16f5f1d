"""`stunet experiment`: rerun the paper's tables and figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

import tyro
from rich.console import Console

from stunet.cli.command import Options
from stunet.cli.output import MESSAGES, RESULTS, Switch, print_json, print_table, stdout_to_stderr
from stunet.errors import Stopped, UserError

if TYPE_CHECKING:
    from stunet.experiments.experiment import Experiment, ExperimentRun, Workplace
    from stunet.experiments.results import Results

ProfileOption = Literal["full", "mini"]

TABLE_WIDTH = 140
"""Minimum width of a line of results, in characters."""


@dataclass
class List(Options):
    """List the experiments.

    Example: stunet experiment list
    """

    def run(self) -> int:
        """Print one line per experiment."""
        from stunet.experiments.registry import EXPERIMENTS

        rows = [(e.name, e.title, e.source, ", ".join(e.datasets("full")) or "nothing") for e in EXPERIMENTS.values()]
        if self.json:
            keys = ("name", "title", "source", "needs")
            print_json([dict(zip(keys, row, strict=True)) for row in rows])
        else:
            print_table("Experiments", ("name", "shows", "in the paper", "full size needs"), rows)
            MESSAGES.print("`stunet experiment show NAME` shows cost and the paper's numbers.")
        return 0


@dataclass
class Show(Options):
    """Show an experiment: its claim, runs, data, cost, and the paper's numbers.

    Example: stunet experiment show table5
    """

    name: Annotated[str, tyro.conf.Positional]
    """Name of an experiment (see `stunet experiment list`)."""
    profile: ProfileOption = "full"
    """full: the paper's experiment. mini: the same code on little data."""

    def run(self) -> int:
        """Estimate the cost and print."""
        from stunet.experiments.registry import find_experiment

        experiment = find_experiment(self.name)
        runs = [_shown_run(run) for run in experiment.runs(self.profile)]
        hours = experiment.gpu_hours(self.profile)
        if self.json:
            print_json({**_claims(experiment, self.profile), "gpu_hours": round(hours, 1), "runs": runs})
            return 0
        print_table(experiment.name, ("", ""), _claim_rows(experiment, self.profile, hours))
        columns = ("run", "system", "needs", *(("gpu_hours", "paper") if self.profile == "full" else ()))
        print_table("Its runs", columns, [[str(run[column]) for column in columns] for run in runs])
        return 0


@dataclass
class Run(Options):
    """Run an experiment, or some of its rows, and compare with the paper's numbers.

    Each finished run is kept; --resume continues. Results, tables and models are written to the output folder.

    Examples: stunet experiment run table2
              stunet experiment run table3 --only stunet-b --data totalsegmentator=raw/Dataset001_TotalSegmentator
              stunet experiment run table7 --profile mini --data hippocampus=raw/Dataset004_Hippocampus
    """

    name: Annotated[str, tyro.conf.Positional]
    """Name of an experiment (see `stunet experiment list`)."""
    profile: ProfileOption = "full"
    """full: the paper's experiment. mini: the same code on little data, minutes on a CPU."""
    data: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """NAME=FOLDER of a dataset in nnU-Net's raw layout, for each name that `stunet experiment show` lists."""
    only: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Only runs that match this pattern, such as 'stunet-b*'."""
    gpus: int | None = None
    """Number of GPUs to train on. 0 is the CPU. Default: 1 if there is one."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder of the experiment. Default: STUNET_HOME/experiments/NAME-PROFILE."""
    resume: Switch = False
    """Keep finished runs, and continue with the others."""

    def run(self) -> int:
        """Run what is left, write results and tables, print them."""
        from stunet.experiments.registry import find_experiment
        from stunet.experiments.result_tables import write_tables
        from stunet.experiments.run import RESULTS_NAME, run_experiment

        def announce(key: str, done: int, total: int) -> None:
            """Print which run starts."""
            MESSAGES.print(f"stunet: run {done + 1} of {total}: {key}")

        experiment = find_experiment(self.name)
        workplace = self._workplace(experiment)
        try:
            with stdout_to_stderr():
                results = run_experiment(experiment, self.profile, workplace, self.only, announce)
        except Stopped as stop:
            MESSAGES.print(f"stunet: {stop}", soft_wrap=True)
            return stop.exit_code
        path = workplace.folder / RESULTS_NAME
        written = [path, *write_tables(path, workplace.folder)]
        if self.json:
            print_json({"folder": str(workplace.folder), **asdict(results)})
            return 0
        print_results(results)
        _name_files(written)
        return 0

    def _workplace(self, experiment: "Experiment") -> "Workplace":
        from stunet.experiments.experiment import Workplace
        from stunet.experiments.mini_data import data_with_minis
        from stunet.experiments.run import experiment_folder
        from stunet.files import made_folder, require_writable

        folder = self.output or experiment_folder(experiment, self.profile)
        require_writable(folder)
        made_folder(folder)
        data = dict(map(_parsed_data, self.data))
        if self.profile == "mini":
            data = data_with_minis(data, folder)
        return Workplace(folder, data, _gpus(experiment, self.profile, self.gpus), self.resume)


@dataclass
class Plot(Options):
    """Draw the figure of an experiment as PDF and PNG.

    Example: stunet experiment plot figure4 --profile mini
    """

    name: Annotated[str, tyro.conf.Positional]
    """Name of an experiment (see `stunet experiment list`)."""
    profile: ProfileOption = "full"
    """Profile of the run to draw."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """Folder of the experiment, as given to `stunet experiment run`."""

    def run(self) -> int:
        """Read the results, draw and write the figure."""
        from stunet.experiments.figures import plot
        from stunet.experiments.registry import find_experiment
        from stunet.experiments.run import RESULTS_NAME, experiment_folder

        folder = self.output or experiment_folder(find_experiment(self.name), self.profile)
        if not (folder / RESULTS_NAME).is_file():
            raise UserError(
                f"{folder} has no {RESULTS_NAME}. Run first: stunet experiment run {self.name} --profile {self.profile}"
            )
        written = plot(folder / RESULTS_NAME, folder)
        if self.json:
            print_json({"figures": [str(path) for path in written]})
        else:
            _name_files(written)
        return 0


Action = Union[  # noqa: UP007 (tyro reads the annotations)
    Annotated[List, tyro.conf.subcommand("list")],
    Annotated[Show, tyro.conf.subcommand("show")],
    Annotated[Run, tyro.conf.subcommand("run")],
    Annotated[Plot, tyro.conf.subcommand("plot")],
]


@dataclass
class ExperimentCommand:
    """Rerun the paper's tables and figures, at full size or in a small version, and draw them."""

    action: Action

    def run(self) -> int:
        """Run the chosen action."""
        return self.action.run()


def print_results(results: "Results") -> None:
    """Print the table, and its remarks on stderr."""
    from stunet.experiments.result_tables import table_of

    table = table_of(results)
    width = max(RESULTS.width, TABLE_WIDTH)  # so that no word is cut
    wide = Console(width=width, highlight=False, markup=False, emoji=False)
    print_table(table.title, table.columns, table.rows, wide)
    for remark in table.notes:
        MESSAGES.print(remark, soft_wrap=True)


def _name_files(paths: Sequence[Path]) -> None:
    MESSAGES.print(f"In {paths[0].parent}: {', '.join(path.name for path in paths)}", soft_wrap=True)


def _parsed_data(text: str) -> tuple[str, Path]:
    """`"btcv=raw/Dataset011_BTCV"` -> ("btcv", Path("raw/Dataset011_BTCV"))."""
    name, is_there, folder = text.partition("=")
    if not (name and is_there and folder):
        raise UserError(f"--data takes NAME=FOLDER, not {text!r}.")
    return name, Path(folder).expanduser()


def _gpus(experiment: "Experiment", profile: ProfileOption, asked: int | None) -> int:
    """The requested number of GPUs; by default one, if there is one and the experiment can use it."""
    if asked is not None and asked < 0:
        raise UserError(f"--gpus must be 0 or more, not {asked}.")
    if asked is not None or not experiment.datasets(profile):
        return asked or 0
    from stunet.training.run import default_device

    return int(default_device() == "cuda")


def _claims(experiment: "Experiment", profile: ProfileOption) -> dict[str, Any]:
    """The description of an experiment."""
    from stunet.experiments.paper_data import data_source

    return {
        "name": experiment.name,
        "title": experiment.title,
        "shows": experiment.shows,
        "source": experiment.source,
        "profile": profile,
        "data": {name: asdict(data_source(name)) for name in experiment.datasets(profile)},
        "elsewhere": list(experiment.elsewhere),
        "remarks": list(experiment.all_remarks(profile)),
    }


def _claim_rows(experiment: "Experiment", profile: ProfileOption, hours: float) -> list[tuple[str, str]]:
    claims = _claims(experiment, profile)
    cost = f"{hours:,.0f} hours of an A100" if hours >= 1 else "a minute of a CPU"
    if profile == "mini" and experiment.datasets("mini"):
        cost = "minutes of a CPU"
    rows = [("what", experiment.title), ("claim", experiment.shows), ("source", experiment.source), ("cost", cost)]
    for name, data in claims["data"].items():
        rows.append((f"--data {name}=", " ".join(filter(None, (f"{data['says']}.", data["command"])))))
    rows += [("elsewhere", text) for text in experiment.elsewhere]
    return rows + [("remark", text) for text in experiment.all_remarks(profile)]


def _shown_run(run: "ExperimentRun") -> dict[str, Any]:
    """A run as a line of text, with the paper's values."""
    from stunet.experiments.result_tables import paper_text

    expected = run.expected()
    numbers = [" ".join(filter(None, (m.target, m.metric, paper_text(m)))) for m in expected if m.paper is not None]
    systems = dict.fromkeys(m.system for m in expected)
    return {
        "run": run.key,
        "system": ", ".join(systems),
        "needs": ", ".join(run.datasets),
        "gpu_hours": round(run.gpu_hours(), 1),
        "paper": "; ".join(numbers),
    }
