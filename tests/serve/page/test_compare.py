"""A result beside reference labels, in Chromium."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from stunet.cli.demo import SCANS, reference_file, scan_file
from stunet.evaluation.dice import dice_per_label
from stunet.inference.predictor import Predictor
from tests.serve.page.visitor import Visitor

pytestmark = pytest.mark.browser


def test_a_result_is_compared_with_a_reference(visitor: Visitor):
    reference = reference_file(SCANS[0])
    visitor.page.click("#demo")
    visitor.choose_model("hippocampus")
    visitor.segment()
    alone = visitor.picture()
    visitor.page.click("#tab-compare")
    visitor.page.set_input_files("#reference", Path(reference))
    visitor.page.locator("#comparison").wait_for()

    labels = Predictor("hippocampus").predict(scan_file(SCANS[0])).labels
    truth = np.asanyarray(nibabel.load(reference).dataobj).T
    scores = dice_per_label(labels, truth, [1, 2])
    rows = [row.inner_text().split("\t") for row in visitor.page.locator("#comparison-rows tr").all()]
    assert [name for name, *_ in rows] == ["Anterior", "Posterior", "Mean"]
    assert [float(dsc) for _, dsc, _ in rows[:2]] == [pytest.approx(scores[label], abs=5e-4) for label in (1, 2)]
    assert all(0 < float(hd95) < 10 for *_, hd95 in rows)

    both = visitor.picture()
    assert np.abs(both - alone).max() > 0.1, "the reference is drawn over the result"
    visitor.page.get_by_label("result", exact=True).check()
    assert np.abs(visitor.picture() - alone).max() < 0.02
