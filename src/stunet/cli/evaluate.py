"""`stunet evaluate`: compare predictions with references and with another system's predictions."""

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
"""Default number of cases in parallel. Each needs memory for two label maps."""


@dataclass
class Evaluate(Options):
    """Compare label maps with references: per case, per label and overall, with confidence intervals.

    Example: stunet evaluate -p predictions/ -r labelsTr/ --names dataset.json --metrics dsc nsd hd95 -o report.json
    """

    prediction: Annotated[Path, tyro.conf.arg(aliases=["-p"])]
    """Predicted label map, or a folder of them."""
    reference: Annotated[Path, tyro.conf.arg(aliases=["-r"])]
    """Reference label map, or a folder with the same file names."""
    output: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["-o"])] = ()
    """Report files: .json has everything, .csv every score, .md and .tex the tables."""
    names: Path | None = None
    """nnU-Net's dataset.json with the labels, regions and ignore label to score. Default: every value that occurs."""
    mapping: str | None = None
    """Score predictions of the 104 structures on another dataset: btcv, amos_ct, ..., or your own .toml file."""
    numbering: Literal["stunet", "totalsegmentator-v1", "totalsegmentator-v2", "dataset"] = "stunet"
    """With --mapping: the numbering of the predictions. `dataset` is that of the references."""
    metrics: tuple[MetricName, ...] = ("dsc",)
    """Metrics. The first one ranks the cases."""
    tolerance: str = "totalsegmentator"
    """Tolerance of nsd: totalsegmentator (3 mm), flare22, a number in mm, or a .csv file of labels and mm."""
    against: Path | None = None
    """Predictions of another system for the same cases. The difference is tested."""
    groups: Switch = False
    """Also score the five groups of the paper's Table 3. Labels are STU-Net's 104 unless --names is given."""
    worst: int = 0
    """List this many of the worst cases."""
    pictures: Path | None = None
    """Draw the worst label of each of the worst cases into this folder."""
    images: Path | None = None
    """Folder with the scans, as background of the pictures."""
    workers: int | None = None
    """Cases to process in parallel. Default: one per processor, at most eight."""
    seed: int = 0
    """Random seed of the bootstrap."""

    def run(self) -> int:
        """Evaluate, write the reports, print the result."""
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
            MESSAGES.print(remark, soft_wrap=True)
        return 0

    def _check(self) -> None:
        """Refuse invalid options before anything is computed."""
        self._check_options()
        self._check_places()

    def _check_places(self) -> None:
        from stunet.evaluation.formats import check_report_path
        from stunet.files import require_writable

        for path in self.output:
            check_report_path(path)
        if self.pictures is not None:
            require_writable(self.pictures)
        if self.images is not None and not self.images.is_dir():
            raise UserError(f"{self.images}: there is no such folder with scans.")

    def _check_options(self) -> None:
        refusals = (
            (self.pictures and self.worst < 1, "--pictures draws the worst cases; say how many with --worst 5."),
            (self.images and not self.pictures, "--images is for pictures; name their folder with --pictures."),
            (
                self.mapping and (self.names or "dsc" not in self.metrics),
                "--mapping has its own names and computes DSC. Leave --names out, and keep dsc in --metrics.",
            ),
            (
                min(self.worst, self.seed, 0 if self.workers is None else self.workers - 1) < 0,
                "--worst and --seed must be 0 or more, --workers 1 or more.",
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
        """The names of both systems: those of their folders, or the full paths if these are equal."""
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
        MESSAGES.print(f"{len(result.worst)} pictures in {folder}", soft_wrap=True)

    def _mapping(self) -> "DatasetMapping | None":
        from stunet.labels.mapping import load_mapping

        return None if self.mapping is None else load_mapping(self.mapping)

    def _numbering(self) -> tuple[str, ...] | None:
        """Class names of the predictions by integer; None if they are numbered like the references."""
        from stunet.labels.mapping import NUMBERINGS

        return NUMBERINGS.get(self.numbering)

    def _labels(self) -> "LabelTable | None":
        """The labels to score; None for every value that occurs."""
        from stunet.labels.ontology import LABELS
        from stunet.plans.labels import LabelTable, read_label_table

        mapping = self._mapping()
        if mapping is not None:
            return LabelTable(mapping.target_names)
        if self.names is not None:
            return read_label_table(self.names)
        return LabelTable({label: name for label, name in enumerate(LABELS) if label}) if self.groups else None
