"""One segmented scan as a page for people: pictures, volumes, warnings, and what made the labels."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stunet.errors import OutputError
from stunet.files import made_folder, printable, replacing, require_writable
from stunet.imaging.affine import orientation
from stunet.inference.segmentation import Segmentation
from stunet.inference.statistics import StructureStatistics
from stunet.labels.ontology import colour_of
from stunet.pictures.display import SOFT_TISSUE_HU, intensity_window
from stunet.pictures.preview import draw_preview

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_A_DEVICE = "Not a medical device. Not for diagnosis or treatment."

SUFFIXES = (".html", ".pdf")

Fact = tuple[str, str]
"""What it is, and its value in words."""


@dataclass(frozen=True)
class StructureRow:
    """A row of the table of structures.

    Attributes:
        name: of the structure, with spaces.
        colour: "#rrggbb", as in the pictures.
        volume: in ml, or in mm³ below 1 ml, with the unit.
        mean: of the scan inside, with its standard deviation and unit.
        warnings: sentences.
    """

    name: str
    colour: str
    volume: str
    mean: str
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class CaseReport:
    """What a report says, before it has a format.

    Attributes:
        title: such as the name of the scan.
        made: the day, as 2026-11-29.
        scan: size, voxels and orientation.
        model: which one made the labels, and how.
        versions: of the software.
        warnings: about the scan and the whole segmentation.
        rows: the structures that were found.
        absent: names of the structures that were asked for and not found.
        picture: three planes and a 3D view, PNG.
    """

    title: str
    made: str
    scan: tuple[Fact, ...]
    model: tuple[Fact, ...]
    versions: tuple[Fact, ...]
    warnings: tuple[str, ...]
    rows: tuple[StructureRow, ...]
    absent: tuple[str, ...]
    picture: bytes


def case_report(segmentation: Segmentation, run: Mapping[str, Any], title: str = "") -> CaseReport:
    """Gather what a report says of a segmentation.

    Args:
        segmentation: with its scan.
        run: the record of the prediction (`stunet.batch.prediction_record.run_record`, or the JSON file that
            `stunet predict` leaves); what it lacks is left out.
        title: such as the name of the scan.
    """
    statistics = segmentation.statistics()
    warnings = segmentation.structure_warnings(statistics)
    unit = " HU" if intensity_window(segmentation.scan.array[0]) == SOFT_TISSUE_HU else ""
    found = [(label, name) for label, name in sorted(segmentation.names.items()) if name in statistics]
    buffer = io.BytesIO()
    draw_preview(buffer, segmentation.scan, segmentation.labels, segmentation.names)
    return CaseReport(
        title=printable(title) or "Segmentation",
        made=date.today().isoformat(),
        scan=tuple(_scan_facts(segmentation)),
        model=tuple(_model_facts(run)),
        versions=tuple((str(name), str(version)) for name, version in run.get("versions", {}).items()),
        warnings=segmentation.warnings,
        rows=tuple(_row(label, name, statistics[name], warnings.get(name, ()), unit) for label, name in found),
        absent=tuple(_words(n) for label, n in sorted(segmentation.names.items()) if label and n not in statistics),
        picture=buffer.getvalue(),
    )


def save_case_report(report: CaseReport, path: str | Path) -> None:
    """Write a report as one HTML file with everything in it, or as PDF; the file appears when it is whole.

    Raises:
        UserError: another suffix, a file that cannot be written, or a missing package for PDF.
    """
    path = Path(path)
    require_report_path(path)
    made_folder(path.parent)
    with replacing(path) as temporary:
        temporary.write_bytes(_writer(path)(report))


def require_report_path(path: Path) -> None:
    """Raises UserError if no report can be written to this path."""
    if path.suffix.lower() not in SUFFIXES:
        raise OutputError(f"{path}: a report is HTML or PDF. Give -o a name that ends in {' or '.join(SUFFIXES)}.")
    require_writable(path.parent)


def _writer(path: Path) -> "Callable[[CaseReport], bytes]":
    if path.suffix.lower() == ".pdf":
        from stunet.pictures.case_report_pdf import as_pdf  # needs an optional package

        return as_pdf
    from stunet.pictures.case_report_html import as_html

    return as_html


def _scan_facts(segmentation: Segmentation) -> Iterator[Fact]:
    scan = segmentation.scan
    yield "Size", " × ".join(str(n) for n in reversed(scan.shape)) + " voxels"
    yield "Voxel", " × ".join(f"{mm:.3g}" for mm in reversed(scan.spacing)) + " mm"
    yield "Axes of the file", orientation(scan.affine)


def _model_facts(run: Mapping[str, Any]) -> Iterator[Fact]:
    model, backend, settings = (run.get(part, {}) for part in ("model", "backend", "settings"))
    for key, what in (
        ("name", "Model"),
        ("source", "Source"),
        ("licence", "Licence"),
        ("card_sha256", "Card, SHA-256"),
    ):
        if model.get(key):
            yield what, str(model[key])
    if model.get("networks", 1) > 1:
        yield "Networks averaged", str(model["networks"])
    if backend:
        yield "Computed by", f"{backend.get('name')}, {backend.get('precision')}"
    if settings:
        yield "Mirrored copies averaged", "yes" if settings.get("mirror") else "no"


def _row(label: int, name: str, found: StructureStatistics, warnings: Sequence[str], unit: str) -> StructureRow:
    red, green, blue = colour_of(name, label)
    ml = found.volume_mm3 / 1000
    return StructureRow(
        name=_words(name),
        colour=f"#{red:02x}{green:02x}{blue:02x}",
        volume=f"{ml:,.1f} ml" if ml >= 1 else f"{found.volume_mm3:,.0f} mm³",
        mean=f"{found.mean:,.0f} ± {found.std:,.0f}{unit}".replace("-", "−"),
        warnings=tuple(warnings),
    )


def _words(name: str) -> str:
    return printable(name.replace("_", " "))
