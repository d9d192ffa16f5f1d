import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader

from stunet.errors import UserError
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, Timings
from stunet.pictures.case_report import NOT_A_DEVICE, case_report, save_case_report
from tests.phantoms import smooth_scan

RUN = {
    "versions": {"stunet": "0.1.0", "torch": "2.13.0"},
    "model": {"name": "sample", "source": "sample.safetensors", "licence": "CC-BY", "networks": 5},
    "backend": {"name": "torch", "precision": "float32"},
    "settings": {"mirror": True},
}


def segmentation(structures: int = 2) -> Segmentation:
    """Cubes of 1,000 voxels of 2 mm in a row, each 8 ml, and one structure that was not found."""
    labels = np.zeros((14, 14, 12 * structures + 2), dtype=np.uint8)
    for n in range(structures):
        labels[2:12, 2:12, 2 + 12 * n : 12 + 12 * n] = n + 1
    names = {0: "background", **{n + 1: f"organ_{n + 1}" for n in range(structures)}, structures + 1: "absent_one"}
    scan = Volume(1000 * smooth_scan(labels.shape)[None] - 500, np.diag([-2.0, -2.0, 2.0, 1.0]))
    return Segmentation(labels, names, scan, Timings(0, 0, 0, 0), warnings=("The scan is odd & <b>bold</b>.",))


def text_of_pdf(path) -> str:
    return " ".join(" ".join(page.extract_text() for page in PdfReader(path).pages).split())


def test_what_a_report_says():
    found = segmentation()
    report = case_report(found, RUN, "Case 12")
    statistics = found.statistics()
    assert [row.name for row in report.rows] == ["organ 1", "organ 2"] and report.absent == ("absent one",)
    assert report.rows[0].volume == "8.0 ml"
    first = statistics["organ_1"]
    assert report.rows[0].mean.replace("−", "-").startswith(f"{first.mean:,.0f} ± {first.std:,.0f}")
    assert dict(report.model) == {
        "Model": "sample",
        "Source": "sample.safetensors",
        "Licence": "CC-BY",
        "Networks averaged": "5",
        "Computed by": "torch, float32",
        "Mirrored copies averaged": "yes",
    }
    assert dict(report.scan) == {"Size": "26 × 14 × 14 voxels", "Voxel": "2 × 2 × 2 mm", "Axes of the file": "LPS"}
    assert Image.open(io.BytesIO(report.picture)).format == "PNG"


def test_a_page_of_html_stands_alone_and_escapes_everything(tmp_path):
    report = replace(case_report(segmentation(), RUN, "<script>alert(1)</script>"), made="2026-11-29")
    save_case_report(report, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in page and "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "The scan is odd &amp; &lt;b&gt;bold&lt;/b&gt;." in page
    assert not re.search(r"(?:src|href)\s*=\s*\"(?!data:)", page) and "@import" not in page and "url(" not in page
    assert all(
        part in page for part in ("organ 1", "8.0 ml", "Not found: absent one.", "CC-BY", "2.13.0", NOT_A_DEVICE)
    )


def test_a_pdf_holds_the_same_words_on_pages_with_numbers(tmp_path):
    report = case_report(segmentation(60), RUN, "Fälle 12 & 13")
    save_case_report(report, tmp_path / "report.pdf")
    text = text_of_pdf(tmp_path / "report.pdf")
    assert "Fälle 12 & 13" in text and "The scan is odd & <b>bold</b>." in text
    assert all(f"organ {n} 8.0 ml" in text for n in range(1, 61))
    assert all(part in text for part in ("Not found: absent one.", "CC-BY", "2.13.0", NOT_A_DEVICE, "Page 3"))


def test_nothing_found_and_nothing_known(tmp_path):
    found = segmentation()
    empty = replace(found, labels=np.zeros_like(found.labels), warnings=())
    for name in ("report.html", "report.pdf"):
        save_case_report(case_report(empty, {}), tmp_path / name)
    assert "No structure was found." in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No structure was found." in text_of_pdf(tmp_path / "report.pdf")


def test_other_formats_are_refused(tmp_path):
    report = case_report(segmentation(), {})
    with pytest.raises(UserError, match=r"a report is HTML or PDF. Give -o a name that ends in .html or .pdf"):
        save_case_report(report, tmp_path / "report.docx")
    assert list(tmp_path.iterdir()) == []
