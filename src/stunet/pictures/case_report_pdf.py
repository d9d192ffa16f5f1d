"""A report as a PDF of A4 pages."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import matplotlib

from stunet.extras import from_extra
from stunet.pictures.case_report import NOT_A_DEVICE, CaseReport, Fact

with from_extra("report"):
    from reportlab.lib.colors import HexColor
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.lib.units import mm
    from reportlab.lib.utils import ImageReader
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont
    from reportlab.platypus import Flowable, Image, Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

PLAIN, BOLD = "DejaVuSans", "DejaVuSans-Bold"
"""Fonts that come with matplotlib, and have the letters of most languages."""

INK, DIM, LINE, WARNING = (HexColor(colour) for colour in ("#1a1d23", "#5c6470", "#dfe3e8", "#8a4b00"))

WIDTH, HEIGHT = A4
MARGIN = 16 * mm
ROOM = WIDTH - 2 * MARGIN - 12
"""Width for text and pictures; reportlab's frames have 6 points of padding at each side."""

TALLEST_PICTURE = 0.55 * HEIGHT

STRUCTURE_COLUMNS = (0.34, 0.14, 0.2, 0.32)
"""Widths of the columns of the table, as fractions of the room."""


def as_pdf(report: CaseReport) -> bytes:
    """The report as PDF."""
    _register_fonts()
    buffer = io.BytesIO()
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=MARGIN,
        rightMargin=MARGIN,
        topMargin=MARGIN,
        bottomMargin=MARGIN,
        title=report.title,
        creator="stunet",
    )
    document.build(list(_story(report)), onFirstPage=_draw_foot, onLaterPages=_draw_foot)
    return buffer.getvalue()


def _register_fonts() -> None:
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    for name in (PLAIN, BOLD):
        pdfmetrics.registerFont(TTFont(name, str(folder / f"{name}.ttf")))


def _story(report: CaseReport) -> Iterator[Flowable]:
    yield _text(report.title, size=16, font=BOLD)
    yield _text(f"{report.made} · {NOT_A_DEVICE}", colour=DIM)
    for warning in report.warnings:
        yield _text(warning, colour=WARNING)
    yield Spacer(0, 3 * mm)
    yield _picture(report.picture)
    yield from _heading("Structures")
    yield _structures(report) if report.rows else _text("No structure was found.")
    if report.absent:
        yield Spacer(0, 2 * mm)
        yield _text(f"Not found: {', '.join(report.absent)}.", colour=DIM)
    for heading, facts in (("Scan", report.scan), ("Model", report.model), ("Software", report.versions)):
        if facts:
            yield from _heading(heading)
            yield _facts(facts)


def _text(text: str, size: float = 8.5, font: str = PLAIN, colour: Any = INK, right: bool = False) -> Paragraph:
    style = ParagraphStyle(
        font, fontName=font, fontSize=size, leading=size * 1.35, textColor=colour, alignment=2 if right else 0
    )
    style.splitLongWords = True
    return Paragraph(escape(text), style)


def _heading(text: str) -> Iterator[Flowable]:
    yield Spacer(0, 4 * mm)
    heading = _text(text, size=11, font=BOLD)
    heading.keepWithNext = True
    yield heading
    yield Spacer(0, 1 * mm)


def _picture(png: bytes) -> Image:
    width, height = ImageReader(io.BytesIO(png)).getSize()
    scale = min(ROOM / width, TALLEST_PICTURE / height)
    return Image(io.BytesIO(png), width * scale, height * scale)


def _structures(report: CaseReport) -> Table:
    """The table runs over as many pages as it needs, its heading on each."""
    heading = [_text("Structure", font=BOLD), _text("Volume", font=BOLD, right=True)]
    heading += [_text("Mean ± SD", font=BOLD, right=True), _text("Check", font=BOLD)]
    rows = [
        [
            _text(row.name),
            _text(row.volume, right=True),
            _text(row.mean, right=True),
            _text(" ".join(row.warnings), size=7.5, colour=WARNING),
        ]
        for row in report.rows
    ]
    swatch = 3 * mm
    widths = [swatch, *(fraction * (ROOM - swatch) for fraction in STRUCTURE_COLUMNS)]
    table = Table([["", *heading], *(["", *row] for row in rows)], colWidths=widths, repeatRows=1)
    colours = [("BACKGROUND", (0, n), (0, n), HexColor(row.colour)) for n, row in enumerate(report.rows, start=1)]
    table.setStyle(TableStyle([*_LINES, *colours]))
    return table


def _facts(facts: Sequence[Fact]) -> Table:
    rows = [[_text(name, colour=DIM), _text(value)] for name, value in facts]
    table = Table(rows, colWidths=[0.3 * ROOM, 0.7 * ROOM])
    table.setStyle(TableStyle(_LINES))
    return table


_LINES: list[tuple[Any, ...]] = [
    ("LINEBELOW", (0, 0), (-1, -1), 0.4, LINE),
    ("VALIGN", (0, 0), (-1, -1), "TOP"),
    ("TOPPADDING", (0, 0), (-1, -1), 2),
    ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
]


def _draw_foot(canvas: Any, document: SimpleDocTemplate) -> None:
    canvas.setFont(PLAIN, 7)
    canvas.setFillColor(DIM)
    canvas.drawString(MARGIN, MARGIN / 2, NOT_A_DEVICE)
    canvas.drawRightString(WIDTH - MARGIN, MARGIN / 2, f"Page {document.page}")
