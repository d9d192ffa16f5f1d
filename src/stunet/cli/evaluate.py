"""`stunet evaluate`: predictions against references, and against another system's predictions."""

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from stunet.cli.command import Options
from stunet.cli.output import MESSAGES, Switch, print_json, print_table, progress_bar
from stunet.errors import UserError

if TYPE_CHECKING:
    from stunet.evaluation.case_scores import EvaluationConfig
    from stunet.evaluation.report import EvaluationReport
    from stunet.evaluation.result import EvaluationResult
    from stunet.labels.mapping import DatasetMapping
    from stunet.plans.labels import LabelTable

MetricName = Literal["dsc", "nsd", "hd95"]

MOST_WORKERS = 8
"""Cases at a time unless the command says otherwise; each holds two label maps in memory."""


@dataclass
class Evaluate(Options):
    """Score label maps against references: each case, each label and all, with intervals.

    Example: stunet evaluate -p predictions/ -r labelsTr/ --names dataset.json --metrics dsc nsd hd95 -o report.json
    """

    prediction: Annotated[Path, tyro.conf.arg(aliases=["-p"])]
    """A label map, or a folder of them."""
    reference: Annotated[Path, tyro.conf.arg(aliases=["-r"])]
    """The same, with the same file names."""
    output: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["-o"])] = ()
    """Write the report here: .json has everything, .csv every score, .md and .tex the tables. Several may be given."""
    names: Path | None = None
    """Score the labels of this dataset.json of nnU-Net: plain ones, regions, and without what is marked to be ignored.
    By default every value that occurs is scored."""
    mapping: str | None = None
    """Score the 104 structures on another dataset's references: btcv, amos_ct, ... or a .toml file of your own."""
    numbering: Literal["stunet", "totalsegmentator-v1", "totalsegmentator-v2", "dataset"] = "stunet"
    """With --mapping: how the predictions are numbered; `dataset` is as the references are."""
    metrics: tuple[MetricName, ...] = ("dsc",)
    """What is measured; the first one ranks the cases."""
    tolerance: str = "totalsegmentator"
    """Of nsd: totalsegmentator's (3 mm for all labels), flare22's, mm of your own, or a .csv file of labels and mm."""
    against: Path | None = None
    """Predictions of another system for the same cases, to test the difference."""
    groups: Switch = False
    """Also the five groups of the paper's Table 3; labels are STU-Net's 104 unless --names says otherwise."""
    worst: int = 0
    """Number of worst cases to list."""
    pictures: Path | None = None
    """Draw the worst label of each of the worst cases into this folder: prediction filled, reference outlined."""
    images: Path | None = None
    """The scans for the pictures, named as nnU-Net does or as the label maps; without, the ground is black."""
    workers: int | None = None
    """Cases at a time; by default as many as there are processors, up to 8."""
    seed: int = 0
    """Of the resampling that gives the intervals."""

    def run(self) -> int:
        """Read, compare, print."""
        from stunet.evaluation.formats import write_report
        from stunet.evaluation.tables import tables

        self._check()
        result = self._result()
        for path in self.output:
            write_report(result, path)
        if self.pictures is not None:
            self._draw(result, self.pictures)
        if self.json:
            print_json(result.to_dict())
            return 0
        for table in tables(result):
            print_table(table.title, table.columns, table.rows)
        for remark in result.mapped.remarks if result.mapped else ():
            MESSAGES.print(remark, soft_wrap=True, markup=False)
        return 0

    def _check(self) -> None:
        """Refuse what cannot be done, before anything is computed."""
        from stunet.evaluation.formats import check_report_path

        for path in self.output:
            check_report_path(path)
        refusals = (
            (self.pictures and self.worst < 1, "--pictures draws the worst cases; say how many with --worst 5."),
            (self.images and not self.pictures, "--images is for pictures; name their folder with --pictures."),
            (
                self.mapping and (self.names or "dsc" not in self.metrics),
                "--mapping brings its own names and counts DSC; leave --names out, and dsc among --metrics.",
            ),
            (
                min(self.worst, self.seed, 0 if self.workers is None else self.workers - 1) < 0,
                "--worst and --seed count from 0, --workers from 1.",
            ),
        )
        for is_refused, reason in refusals:
            if is_refused:
                raise UserError(reason)

    def _result(self) -> "EvaluationResult":
        from stunet.evaluation.bootstrap import Bootstrap
        from stunet.evaluation.mapped import as_mapped
        from stunet.evaluation.result import conclude

        labels = self._labels()
        report = self._evaluate(self.prediction, labels)
        system, other_system = self._systems()
        against = None if self.against is None else (other_system, self._evaluate(self.against, labels))
        bootstrap = Bootstrap(seed=self.seed)
        result = conclude(system, report, against, bootstrap, with_groups=self.groups, worst=self.worst)
        mapping = self._mapping()
        return result if mapping is None else replace(result, mapped=as_mapped(report, mapping, self._numbering()))

    def _evaluate(self, prediction: Path, labels: "LabelTable | None") -> "EvaluationReport":
        from stunet.evaluation.report import evaluate

        with progress_bar(f"scoring {prediction.name}") as on_case:
            names = None if labels is None else labels.names
            return evaluate(prediction, self.reference, names, self._config(labels), on_case)

    def _config(self, labels: "LabelTable | None") -> "EvaluationConfig":
        from stunet.evaluation.case_scores import EvaluationConfig
        from stunet.evaluation.mapped import merging
        from stunet.evaluation.tolerances import read_tolerances

        workers = self.workers or min(MOST_WORKERS, os.cpu_count() or 1)
        metrics = tuple(dict.fromkeys(self.metrics))
        config = EvaluationConfig(metrics, read_tolerances(self.tolerance), workers=workers)
        if labels is not None:
            config = replace(config, members=labels.members, ignored=labels.ignored)
        mapping = self._mapping()
        return config if mapping is None else merging(config, mapping, self._numbering())

    def _systems(self) -> tuple[str, str]:
        """The names of both systems: those of their folders, or the whole paths where these are alike."""
        from stunet.imaging.formats.registry import without_suffix

        ours, theirs = (without_suffix(path) for path in (self.prediction, self.against or Path()))
        return (ours, theirs) if ours != theirs else (str(self.prediction), str(self.against))

    def _draw(self, result: "EvaluationResult", folder: Path) -> None:
        from stunet.evaluation.case_scores import pair_files
        from stunet.pictures.worst_case import draw_worst_case

        pairs = {pair.case: pair for pair in pair_files(self.prediction, self.reference)}
        with progress_bar("drawing") as update:
            for done, worst in enumerate(result.worst):
                update(done, len(result.worst))
                draw_worst_case(worst, pairs[worst.case], result.report, folder, self.images)
        MESSAGES.print(f"{len(result.worst)} pictures in {folder}", markup=False, soft_wrap=True)

    def _mapping(self) -> "DatasetMapping | None":
        from stunet.labels.mapping import load_mapping

        return None if self.mapping is None else load_mapping(self.mapping)

    def _numbering(self) -> tuple[str, ...] | None:
        """Class names of the predictions by integer; None where they are numbered as the references."""
        from stunet.labels.mapping import NUMBERINGS

        return NUMBERINGS.get(self.numbering)

    def _labels(self) -> "LabelTable | None":
        """What is scored; None for every value that occurs."""
        from stunet.labels.ontology import LABELS
        from stunet.plans.labels import LabelTable, read_label_table

        mapping = self._mapping()
        if mapping is not None:
            return LabelTable(mapping.target_names)
        if self.names is not None:
            return read_label_table(self.names)
        return LabelTable({label: name for label, name in enumerate(LABELS) if label}) if self.groups else None
