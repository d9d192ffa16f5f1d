"""`stunet report`: a scan and its labels become a page of HTML or a PDF."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from stunet.cli.command import DONE, Options
from stunet.cli.output import print_sentence


@dataclass
class Report(Options):
    """Describe one segmented scan on a page: pictures, volumes, warnings, and the model.

    Examples: stunet report -i scan.nii.gz -l labels.nii.gz -o report.html
              stunet report -i scan.nii.gz -l labels.nii.gz -o report.pdf --title "Case 12"
    """

    input: Annotated[Path, tyro.conf.arg(aliases=["-i"], metavar="PATH")]
    """The scan."""
    labels: Annotated[Path, tyro.conf.arg(aliases=["-l"], metavar="FILE")]
    """Its label map, as `stunet predict` wrote it. The record beside it (.report.json) has the names and the model."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """Report to write, .html or .pdf."""
    names: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """nnU-Net's dataset.json, which names the labels where there is no record."""
    title: str | None = None
    """Title of the report. Default: the name of the label map."""

    def run(self) -> int:
        """Read, measure, write."""
        from stunet.batch.label_record import record_of
        from stunet.batch.saved_segmentation import read_segmentation
        from stunet.imaging.formats.registry import without_suffix
        from stunet.pictures.case_report import case_report, require_report_path, save_case_report
        from stunet.plans.labels import read_label_table

        require_report_path(self.output)
        record = record_of(self.labels)
        table = None if self.names is None else read_label_table(self.names)
        segmentation = read_segmentation(self.input, self.labels, record, table)
        title = without_suffix(self.labels) if self.title is None else self.title
        report = case_report(segmentation, record, title)
        save_case_report(report, self.output)
        summary = {"report": str(self.output), "structures": len(report.rows), "warnings": list(report.warnings)}
        print_sentence(summary, self.json, f"{self.output}: a report of {len(report.rows)} structures.")
        return DONE
