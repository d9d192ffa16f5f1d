"""Figure 3 shows the correct slice in the correct orientation, from the files named in the results."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from stunet.errors import UserError
from stunet.experiments.figures import row_of
from stunet.pictures.panels import draw_panels, edges_of
from tests.experiments.invented import write_pictures


def test_rows_are_cases_and_columns_image_reference_and_systems(tmp_path):
    results, cases = write_pictures(tmp_path)
    figure = draw_panels([row_of(case, results) for case in cases])
    assert len(figure.axes) == 2 * 4
    assert [axes.get_title() for axes in figure.axes[:4]] == ["image", "reference", "right", "shifted"]
    assert [figure.axes[i].get_ylabel() for i in (0, 4)] == ["case_1, CT", "case_2, CT"]
    said = [[text.get_text() for text in axes.texts] for axes in figure.axes]
    assert said[2:4] == [["DSC 100.0"], ["DSC 50.0"]] and said[6:8] == [["DSC 87.5"], ["DSC 37.5"]]
    assert said[0] == ["20 mm"]
    assert [text.get_text() for text in figure.legends[0].texts] == ["liver", "spleen"]
    outlines = [len(axes.collections) for axes in figure.axes]
    assert outlines == [0, 2, 2, 2] * 2


def test_the_slice_is_the_fullest_in_radiological_display(tmp_path):
    results, cases = write_pictures(tmp_path)
    row = row_of(cases[0], results)
    labels_xyz = np.asarray(nibabel.load(cases[0].reference).dataobj)
    z = int((labels_xyz > 0).sum(axis=(0, 1)).argmax())
    # rows run from anterior to posterior (against y), columns from the patient's right to the left (against x)
    assert np.array_equal(row.labels["reference"], labels_xyz[::-1, ::-1, z].T)
    assert row.image.shape == (32, 40) and row.spacing == (2.0, 2.0)
    assert row.image.min() >= 0 and row.image.max() <= 1


def test_scans_stored_the_other_way_round_look_the_same(tmp_path):
    results, (case, _) = write_pictures(tmp_path)
    before = row_of(case, results)
    for path in (case.image, case.reference, *case.predictions.values()):
        image = nibabel.load(path)
        flipped = image.as_reoriented(nibabel.orientations.axcodes2ornt("LPS", (("L", "R"), ("P", "A"), ("I", "S"))))
        turned = flipped.as_reoriented(np.array([[1, -1], [0, 1], [2, -1]]))
        data, affine = np.asarray(turned.dataobj).copy(), turned.affine
        nibabel.save(nibabel.Nifti1Image(data, affine), path)
    after = row_of(case, results)
    assert np.array_equal(after.image, before.image)
    assert all(np.array_equal(after.labels[name], before.labels[name]) for name in before.labels)


def test_labels_on_another_grid_are_refused(tmp_path):
    results, (first, second) = write_pictures(tmp_path)
    mixed = replace(first, predictions={"right": second.reference})
    with pytest.raises(UserError, match=r"case_2.*has 24x24x8 voxels"):
        row_of(mixed, results)


def test_a_system_without_a_prediction_of_a_case_leaves_its_place_empty(tmp_path):
    results, (first, second) = write_pictures(tmp_path)
    fewer = replace(second, predictions={"right": second.predictions["right"]})
    figure = draw_panels([row_of(case, results) for case in (first, fewer)])
    assert [bool(axes.images) for axes in figure.axes] == [True] * 7 + [False]


def test_outlines_run_along_all_edges_of_pixels_and_no_others():
    mask = np.random.default_rng(0).random((9, 13)) < 0.5
    padded = np.pad(mask, 1)
    expected = set()
    for y, x in np.ndindex(mask.shape[0] + 1, mask.shape[1] + 1):
        if padded[y, x + 1] != padded[y + 1, x + 1]:
            expected.add(((x, y), (x + 1, y)))
        if padded[y + 1, x] != padded[y + 1, x + 1]:
            expected.add(((x, y), (x, y + 1)))
    found = set()
    for (x0, y0), (x1, y1) in edges_of(mask).tolist():
        for step in range((x1 - x0) + (y1 - y0)):
            a = (x0 + step * (x1 > x0), y0 + step * (y1 > y0))
            found.add((a, (a[0] + (x1 > x0), a[1] + (y1 > y0))))
    assert found == expected
    assert edges_of(np.zeros((3, 3), bool)).shape == (0, 2, 2)
