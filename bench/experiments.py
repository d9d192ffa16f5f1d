"""Run experiments and write their pages in docs/experiments: the command, the table, the figure.

    python bench/experiments.py table2 table3_cost table6_cost table7_cost
    STUNET_SHARED=... python bench/experiments.py --profile mini --folder minis table3 table5 table7

Interrupted experiments are resumed. Pages are made from the results files alone.
"""

import argparse
from pathlib import Path

from stunet.evaluation.text_tables import to_markdown
from stunet.experiments.experiment import PROFILES, Experiment, Profile, Workplace
from stunet.experiments.figures import FIGURES, plot
from stunet.experiments.mini_data import data_with_minis
from stunet.experiments.registry import EXPERIMENTS, find_experiment
from stunet.experiments.result_tables import table_of
from stunet.experiments.results import Results, file_name_of
from stunet.experiments.run import RESULTS_NAME, run_experiment
from stunet.files import made_folder

PAGES = Path(__file__).resolve().parents[1] / "docs" / "experiments"


def command_of(experiment: Experiment, profile: Profile) -> str:
    """The command that gives the same results."""
    data = [f"--data {name}=FOLDER" for name in experiment.datasets(profile)]
    options = ["--profile mini"] if profile == "mini" else []
    return " ".join(["stunet experiment run", experiment.name, *options, *data])


def page_of(experiment: Experiment, results: Results, profile: Profile, figure: str | None) -> str:
    """A page in Markdown."""
    lines = [
        f"# {experiment.title}",
        f"{experiment.source}. The paper's claim: {experiment.shows}",
        f"```\n{command_of(experiment, profile)}\n```",
        to_markdown([table_of(results)]).strip(),
    ]
    if figure:
        lines.append(
            f"```\nstunet experiment plot {experiment.name} --profile {profile}\n```\n\n![{experiment.title}]({figure})"
        )
    return "\n\n".join(lines) + "\n"


def run(experiment: Experiment, profile: Profile, folder: Path) -> Path:
    """Finish an experiment and write its page. Returns the page."""
    results = run_experiment(experiment, profile, Workplace(folder, data_with_minis({}, folder), resume=True))
    figures = plot(folder / RESULTS_NAME, made_folder(PAGES)) if experiment.name in FIGURES else []
    pictures = [path.name for path in figures if path.suffix == ".png"]
    page = PAGES / f"{file_name_of(results)}.md"
    page.write_text(page_of(experiment, results, profile, pictures[0] if pictures else None), encoding="utf-8")
    return page


def main() -> None:
    """Run the named experiments one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", metavar="NAME", help=", ".join(EXPERIMENTS))
    parser.add_argument("--profile", choices=PROFILES, default="full")
    parser.add_argument("--folder", type=Path, default=Path("experiments"))
    options = parser.parse_args()
    for name in options.names:
        print(run(find_experiment(name), options.profile, made_folder(options.folder / f"{name}-{options.profile}")))


if __name__ == "__main__":
    main()
