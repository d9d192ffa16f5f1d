"""`stunet dataset`: convert published datasets, check datasets, draw subsets."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro

from stunet.cli.command import Options
from stunet.cli.output import MESSAGES, Switch, print_result, progress_bar


@dataclass
class Convert(Options):
    """Convert a published dataset into nnU-Net's raw layout, and check it against the published numbers.

    To continue an interrupted conversion, run the same command again.

    Example: stunet dataset convert msd Task09_Spleen --id 9
    """

    kind: Annotated[Literal["totalsegmentator", "msd", "amos22", "flare22", "autopet22"], tyro.conf.Positional]
    """totalsegmentator (version 1), msd (one task of the Decathlon), amos22, flare22 or autopet22."""
    source: Annotated[Path, tyro.conf.Positional]
    """Folder with the unpacked archive."""
    id: int
    """Number for the new dataset, 1 to 999."""
    to: Path | None = None
    """nnU-Net's raw folder. Default: nnUNet_raw if set, else STUNET_HOME/raw."""
    modality: str | None = None
    """Use only one modality: CT or MR (amos22), CT or PET (autopet22)."""
    partial: Switch = False
    """Accept a part of the dataset. Numbers that differ from the published ones are only reported."""
    only_labelled: Switch = False
    """Skip cases with an empty label map (autopet22: studies without lesions)."""
    link: Switch = False
    """Link images instead of copying them, if they need no change."""
    workers: int | None = None
    """Cases to process in parallel. Default: one per processor, at most eight."""

    def run(self) -> int:
        """Find the cases, compare numbers, convert."""
        from stunet.datasets import WORKERS
        from stunet.datasets.convert import SOURCES, ConversionSettings, convert
        from stunet.datasets.source import Choice
        from stunet.folders import nnunet_folders

        source = SOURCES[self.kind](self.source, Choice(self.modality, self.partial))
        settings = ConversionSettings(
            number=self.id,
            root=self.to or nnunet_folders().raw,
            partial=self.partial,
            only_labelled=self.only_labelled,
            link=self.link,
            workers=self.workers or WORKERS,
        )
        with progress_bar("converting") as on_case:
            conversion = convert(source, settings, on_case)
        for sentence in conversion.differences:
            MESSAGES.print(f"stunet: {sentence}", soft_wrap=True)
        for case in conversion.cases:
            if case.error is not None and case.outcome != "empty":
                MESSAGES.print(f"stunet: {case.error}", soft_wrap=True)
        summary = {**conversion.to_dict(), "next": f"stunet prepare -d {self.id}"}
        print_result(summary, self.json, "Converted", ("", "value"), _conversion_rows(summary))
        return 2 if conversion.failed else 0


@dataclass
class Check(Options):
    """Read every training case of a dataset, and list all problems.

    Example: stunet dataset check -d 4
    """

    dataset: Annotated[str, tyro.conf.arg(aliases=["-d"])]
    """Number or name of a dataset in nnU-Net's raw folder (nnUNet_raw if set, else STUNET_HOME/raw)."""

    def run(self) -> int:
        """Check the dataset. Returns 2 if there is any problem."""
        from stunet.datasets.check import check_dataset

        with progress_bar("checking") as on_case:
            report = check_dataset(_raw_folder(self.dataset), on_case)
        for problem in () if self.json else report.problems:
            MESSAGES.print(f"stunet: {problem}", soft_wrap=True)
        verdict = f"{len(report.problems)} problems" if report.problems else "nothing is wrong"
        title = f"{report.dataset}, {report.cases} cases: {verdict}"
        rows = [(name, str(cases)) for name, cases in report.label_cases.items()]
        print_result(asdict(report), self.json, title, ("label", "cases with it"), rows)
        return 2 if report.problems else 0


@dataclass
class Subset(Options):
    """Draw nested, stratified subsets of the training cases as folds to train on.

    A larger subset contains the smaller ones. The validation cases are those of the fold drawn from (a fifth of the
    cases if the dataset has no split).

    Example: stunet dataset subset -d 4 --cases 10 20 40
    """

    dataset: Annotated[str, tyro.conf.arg(aliases=["-d"])]
    """Number or name of a dataset in nnU-Net's raw folder."""
    cases: tuple[int, ...]
    """Sizes of the subsets."""
    seed: int = 0
    """Random seed."""
    fold: Annotated[int, tyro.conf.arg(aliases=["-f"])] = 0
    """Draw from the training cases of this fold. Its validation cases are kept."""

    def run(self) -> int:
        """Read the label maps, draw subsets, write the splits file."""
        from stunet.datasets.subset import write_subsets
        from stunet.folders import nnunet_folders

        raw = _raw_folder(self.dataset)
        with progress_bar("reading labels") as on_case:
            subsets = write_subsets(
                raw, self.cases, self.seed, self.fold, nnunet_folders().preprocessed / raw.name, on_case
            )
        summary = {
            "dataset": raw.name,
            "validation": len(subsets.validation),
            "folds": {str(fold): list(cases) for fold, cases in subsets.folds.items()},
        }
        rows = [
            (str(fold), str(len(cases)), f"stunet train -d {self.dataset} -f {fold}")
            for fold, cases in subsets.folds.items()
        ]
        title = f"{raw.name}: subsets of fold {subsets.base}, {len(subsets.validation)} validation cases"
        print_result(summary, self.json, title, ("fold", "training cases", "train with"), rows)
        return 0


Action = Union[  # noqa: UP007 (tyro reads the annotations)
    Annotated[Convert, tyro.conf.subcommand("convert")],
    Annotated[Check, tyro.conf.subcommand("check")],
    Annotated[Subset, tyro.conf.subcommand("subset")],
]


@dataclass
class Dataset:
    """Convert published datasets, check datasets, draw subsets."""

    action: Action

    def run(self) -> int:
        """Run the chosen action."""
        return self.action.run()


def _raw_folder(dataset: str) -> Path:
    from stunet.folders import find_dataset, nnunet_folders

    raw = nnunet_folders().raw
    return raw / find_dataset(dataset, raw)


def _conversion_rows(summary: dict[str, Any]) -> list[tuple[str, str]]:
    cases = ", ".join(f"{count} {part}" for part, count in summary["cases"].items() if count)
    return [
        ("folder", summary["folder"]),
        ("cases", cases),
        ("failed", str(len(summary["failed"]))),
        ("left out", str(len(summary["left_out"]))),
        ("resampled", str(len(summary["resampled_from_mm"]))),
        ("overlapping voxels", str(summary["overlapping_voxels"])),
        ("next", summary["next"]),
    ]
