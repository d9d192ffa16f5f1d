"""A report as one HTML file, without scripts, and with nothing loaded from elsewhere."""

from base64 import b64encode
from importlib.resources import files

from jinja2 import Environment

from stunet.pictures.case_report import NOT_A_DEVICE, CaseReport


def as_html(report: CaseReport) -> bytes:
    """The report as a page in UTF-8. All text is escaped."""
    text = files(__package__).joinpath("case_report.html").read_text(encoding="utf-8")
    template = Environment(autoescape=True, trim_blocks=True).from_string(text)
    sections = (("Scan", report.scan), ("Model", report.model), ("Software", report.versions))
    picture = b64encode(report.picture).decode()
    return template.render(report=report, sections=sections, picture=picture, not_a_device=NOT_A_DEVICE).encode()
