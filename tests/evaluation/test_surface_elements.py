import numpy as np
import pytest
from monai.metrics.utils import ENCODING_KERNEL, create_table_neighbour_code_to_surface_area

from stunet.evaluation.surface_elements import CORNERS, element_areas, surface_elements


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.7, 1.3, 2.9), (5.0, 0.4, 0.5)])
def test_all_256_areas_are_those_of_the_published_table(spacing):
    published = np.asarray(create_table_neighbour_code_to_surface_area(spacing)[0], np.float64)
    kernel = np.array(ENCODING_KERNEL[3])
    theirs = [sum(kernel[corner] for bit, corner in enumerate(CORNERS) if code >> bit & 1) for code in range(256)]
    assert element_areas(spacing) == pytest.approx(published[theirs], abs=1e-5)


def test_a_single_voxel_is_an_octahedron():
    elements = surface_elements(np.ones((1, 1, 1), bool), (2.0, 3.0, 5.0))
    # eight triangles between the midpoints of three edges, each half a voxel long
    one = 0.5 * np.linalg.norm(np.cross([1.0, -1.5, 0], [1.0, 0, -2.5]))
    assert elements.areas == pytest.approx([one] * 8)
    assert sorted(map(tuple, elements.points)) == [
        (z, y, x) for z in (-1.0, 1.0) for y in (-1.5, 1.5) for x in (-2.5, 2.5)
    ]


def test_a_flat_face_has_its_own_area():
    spacing = (2.0, 0.5, 0.8)
    slab = np.zeros((6, 40, 50), bool)
    slab[2:4] = True
    elements = surface_elements(slab, spacing)
    top = elements.points[:, 0] == 2.5 * 2.0 + 2.0  # the corners above the slab's second slice
    inner = top & (np.abs(elements.points[:, 1] - 10) < 9) & (np.abs(elements.points[:, 2] - 20) < 19)
    assert inner.sum() > 1000
    assert elements.areas[inner] == pytest.approx(0.5 * 0.8)


def test_a_mask_at_the_edge_of_its_array_has_the_surface_it_has_inside():
    inside = np.zeros((7, 8, 9), bool)
    inside[2:5, 2:6, 2:7] = True
    cut = inside[2:5, 2:6, 2:7]
    whole, tight = (surface_elements(mask, (1.0, 2.0, 3.0)) for mask in (inside, cut))
    assert whole.points == pytest.approx(tight.points + np.array([2.0, 4.0, 6.0]))
    assert whole.areas == pytest.approx(tight.areas)


def test_nothing_has_no_surface():
    elements = surface_elements(np.zeros((3, 3, 3), bool), (1.0, 1.0, 1.0))
    assert elements.points.shape == (0, 3) and elements.areas.shape == (0,)
