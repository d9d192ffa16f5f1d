import numpy as np
import pytest
from scipy import ndimage

from stunet.imaging.volume import Volume
from stunet.pictures.preview_projection import RADIOGRAPH_BRIGHTNESS, project
from stunet.pictures.preview_scene import Scene, make_scene

SHAPE = (16, 20, 24)
NAMES = {0: "background", 1: "a", 2: "b", 3: "c"}
ONE_DOT_PER_VOXEL = 0.01


def scene(
    labels_ZYX: np.ndarray, image_ZYX: np.ndarray | None = None, axes_xyz: tuple[int, int, int] = (1, 1, 1)
) -> Scene:
    """A scan in RAS orientation with voxels of 1 mm, of one value by default."""
    image = np.zeros(labels_ZYX.shape, dtype=np.int16) if image_ZYX is None else image_ZYX
    return make_scene(Volume(image[None], np.diag([*map(float, axes_xyz), 1.0])), labels_ZYX, None, NAMES)


def painted(labels_ZYX: np.ndarray, dots_per_mm: float = ONE_DOT_PER_VOXEL) -> np.ndarray:
    return project(scene(labels_ZYX), dots_per_mm)


def nothing() -> np.ndarray:
    return np.zeros(SHAPE, dtype=np.uint8)


@pytest.mark.parametrize("dots_per_mm", [ONE_DOT_PER_VOXEL, 1.0, 2.5])
def test_the_picture_has_whole_dots_per_voxel(dots_per_mm):
    labels = nothing()
    labels[:, :, :] = 1
    picture = painted(labels, dots_per_mm)
    zoom = max(1, int(np.ceil(dots_per_mm)))
    assert picture.shape == (16 * zoom, 24 * zoom, 3)
    assert picture.min() >= 0 and picture.max() <= 1


def test_the_radiograph_is_the_mean_along_the_ray():
    image = np.random.default_rng(0).integers(0, 100, SHAPE).astype(np.int16)
    one = scene(nothing(), image)
    low, high = one.window
    means = np.clip((image - low) / (high - low), 0, 1).mean(axis=1)[::-1, ::-1]  # RAS: up and to the right
    expected = np.clip(means / np.percentile(means, 99.5), 0, 1) * RADIOGRAPH_BRIGHTNESS
    np.testing.assert_allclose(project(one, ONE_DOT_PER_VOXEL), np.repeat(expected[..., None], 3, axis=-1), atol=1e-6)


def test_right_is_left_and_above_is_up():
    labels = nothing()
    labels[12:15, 9, 18:22] = 1  # the patient's right, above
    labels[2:5, 15, 3:7] = 2  # the patient's left, below
    picture = painted(labels)
    red, blue = (np.array(ndimage.center_of_mass(distance < 0.25)) for distance in colour_distances(labels, picture))
    assert red == pytest.approx((15 - 13, 23 - 19.5), abs=0.6)
    assert blue == pytest.approx((15 - 3, 23 - 4.5), abs=0.6)


def colour_distances(labels: np.ndarray, picture: np.ndarray) -> list[np.ndarray]:
    """For structures 1 and 2, the distance of each dot from their hue."""
    colours = scene(labels).colours
    norm = np.linalg.norm(picture, axis=-1, keepdims=True)
    hues = np.divide(picture, norm, out=np.zeros_like(picture), where=norm > 0.1)
    return [np.linalg.norm(hues - colours[label] / np.linalg.norm(colours[label]), axis=-1) for label in (1, 2)]


@pytest.mark.parametrize("front", [1, 2])
def test_what_is_in_front_lies_over_what_is_behind(front):
    labels = nothing()
    labels[4:12, 15:17, 6:18] = front  # RAS: a larger y is further to the front
    labels[4:12, 4:6, 6:18] = 3 - front
    distances = colour_distances(labels, painted(labels))
    middle = [float(distance[8, 12]) for distance in distances]
    assert middle[front - 1] < middle[2 - front]


@pytest.mark.parametrize("y", [0, 8, 19])
def test_a_single_voxel_is_seen_through_a_large_structure(y):
    labels = nothing()
    labels[1:15, 5:15, 1:23] = 1
    labels[6, y, 10] = 2
    picture = painted(labels)
    around = picture[15 - 6, [23 - 10 - 4, 23 - 10 + 4]].mean(axis=0)
    assert np.abs(picture[15 - 6, 23 - 10] - around).max() > 0.1


def test_the_more_it_hides_the_clearer_the_glass():
    """The same plate in front is more transparent where four structures are behind it."""
    alone = nothing()
    alone[2:14, 18, 2:22] = 1
    before_others = alone.copy()
    before_others[3:6, 2, 3:6] = 2
    before_others[9:12, 2, 3:6] = 3
    colour = scene(alone).colours[1]
    nearness = [np.abs(painted(labels)[3, 3] - colour).max() for labels in (alone, before_others)]
    assert nearness[0] < nearness[1]


def test_the_kind_of_integer_does_not_matter():
    labels = np.random.default_rng(0).integers(0, 4, SHAPE)
    expected = painted(labels.astype(np.uint8))
    for kind in (np.uint16, np.int64):
        np.testing.assert_array_equal(painted(labels.astype(kind)), expected)


def test_a_structure_reaches_the_border_of_the_scan():
    picture = painted(np.ones(SHAPE, dtype=np.uint8), 3.0)
    assert (picture[:, 3:-3, 0] > 0.5).all() and (picture[3:-3, :, 0] > 0.5).all()
