from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from stunet.errors import UserError
from stunet.imaging.volume import Volume
from stunet.labels.ontology import LABELS
from stunet.pictures.preview import save_preview

SHAPE, SPACING = (20, 24, 28), (2.0, 1.5, 1.0)
NAMES = {0: "background", 1: "corner"}
BLOCK = (slice(14, 18), slice(17, 22), slice(20, 26))
"""Position of the label in a RAS scan: to the patient's right, in front, above."""


def corner_phantom() -> tuple[Volume, np.ndarray]:
    """A grey RAS scan with one labelled block; the black and white voxels are outside the planes."""
    image = np.full(SHAPE, 100, dtype=np.int16)
    image[2:6, 2:6, 2:12], image[8:12, 2:6, 2:12] = 0, 300
    labels = np.zeros(SHAPE, dtype=np.uint8)
    labels[BLOCK] = 1
    return Volume(image[None], np.diag([*reversed(SPACING), 1.0])), labels


def turned(volume: Volume, labels_ZYX: np.ndarray, axes: str) -> tuple[Volume, np.ndarray]:
    """The same scan, reoriented by nibabel."""
    moves = nibabel.orientations.ornt_transform(
        nibabel.orientations.io_orientation(volume.affine), nibabel.orientations.axcodes2ornt(axes)
    )
    image, labels = (nibabel.Nifti1Image(array.T, volume.affine) for array in (volume.array[0], labels_ZYX))
    image, labels = image.as_reoriented(moves), labels.as_reoriented(moves)
    assert nibabel.aff2axcodes(image.affine) == tuple(axes)
    return Volume(np.asarray(image.dataobj).T[None], image.affine), np.asarray(labels.dataobj).T


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


IN_A_ROW = ("coronal", "sagittal", "projection", "axial")
IN_A_SQUARE = ("coronal", "sagittal", "axial", "projection")


def views_of(picture: np.ndarray, names: tuple[str, ...] = IN_A_ROW) -> dict[str, np.ndarray]:
    """The four views from the upper left: the largest areas that do not have the background colour."""
    components, _ = ndimage.label((picture != picture[0, 0]).any(axis=-1))
    largest = np.argsort(np.bincount(components.ravel())[1:])[-4:]
    boxes = sorted(
        (ndimage.find_objects(components)[number] for number in largest), key=lambda b: (b[0].start, b[1].start)
    )
    return dict(zip(names, (picture[box] for box in boxes), strict=True))


def is_coloured(plane: np.ndarray) -> np.ndarray:
    return plane.max(axis=-1) - plane.min(axis=-1) > 25


def letter_at(plane: np.ndarray, side: str) -> str:
    """The letter most similar to the picture at the middle of a side."""
    rows, columns = plane.shape[:2]
    y, x = {"left": (0.5, 0), "right": (0.5, 1), "top": (0, 0.5), "bottom": (1, 0.5)}[side]
    top, left = (int(np.clip(f * n - 30, 0, n - 60)) for f, n in ((y, rows), (x, columns)))
    drawn = trimmed(plane[top : top + 60, left : left + 60].min(axis=-1) > 170)
    return max("RLAPSI", key=lambda letter: overlap(drawn, glyph(letter)))


def glyph(letter: str) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1, 1), dpi=160)
    canvas = FigureCanvasAgg(figure)
    figure.text(0.5, 0.5, letter, size=10, weight="bold")
    canvas.draw()
    return trimmed(np.asarray(canvas.buffer_rgba())[..., 0] < 80)


def trimmed(mask: np.ndarray) -> np.ndarray:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    size = np.maximum(a.shape, b.shape)
    a, b = (np.pad(m, [(0, int(s - n)) for s, n in zip(size, m.shape, strict=True)]) for m in (a, b))
    return float((a & b).sum() / (a | b).sum())


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> np.ndarray:
    volume, labels = corner_phantom()
    path = tmp_path_factory.mktemp("preview") / "corner.png"
    save_preview(path, volume, labels, NAMES, title="corner $ phantom_1")
    assert [p.name for p in path.parent.iterdir()] == ["corner.png"]
    return pixels(path)


def assert_sizes(views: dict[str, np.ndarray], shape: tuple[int, int, int]) -> None:
    z, y, x = (n * mm for n, mm in zip(shape, SPACING, strict=True))
    for name, (height, width) in {"coronal": (z, x), "sagittal": (z, y), "axial": (y, x), "projection": (z, x)}.items():
        rows, columns = views[name].shape[:2]
        assert rows / columns == pytest.approx(height / width, rel=0.01), name
        assert rows / views["coronal"].shape[0] == pytest.approx(height / z, rel=0.01), name


def test_views_have_their_size_in_mm(picture):
    assert_sizes(views_of(picture), SHAPE)


def test_a_scan_that_is_long_from_front_to_back_is_laid_out_in_a_square(tmp_path):
    shape = (20, 48, 28)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[5:15, 10:30, 5:15] = 1
    image = np.random.default_rng(0).integers(100, 300, (1, *shape)).astype(np.int16)
    save_preview(tmp_path / "p.png", Volume(image, np.diag([*reversed(SPACING), 1.0])), labels, NAMES)
    picture = pixels(tmp_path / "p.png")
    assert 0.8 < picture.shape[1] / picture.shape[0] < 1.25
    assert_sizes(views_of(picture, IN_A_SQUARE), shape)


def test_the_label_lies_where_radiologists_look_for_it(picture):
    """Right on the left, anterior up, superior up, and anterior to the left in sagittal planes."""
    from_top, from_front, from_right = 1 - 16 / 20, 1 - 19.5 / 24, 1 - 23 / 28
    expected = {
        "coronal": (from_top, from_right),
        "sagittal": (from_top, from_front),
        "axial": (from_front, from_right),
        "projection": (from_top, from_right),
    }
    high, deep, wide = 4 / 20, 5 / 24, 6 / 28
    sizes = {"coronal": high * wide, "sagittal": high * deep, "axial": deep * wide, "projection": high * wide}
    for name, view in views_of(picture).items():
        where = np.array(ndimage.center_of_mass(is_coloured(view))) / view.shape[:2]
        assert where == pytest.approx(expected[name], abs=0.02), name
        assert is_coloured(view).mean() == pytest.approx(sizes[name], rel=0.15), name


def test_the_letters_name_the_patients_sides(picture):
    views = views_of(picture)
    for name, letters in {"coronal": "RLSI", "sagittal": "APSI", "axial": "RLAP", "projection": "RLSI"}.items():
        sides = ("left", "right", "top", "bottom")
        assert "".join(letter_at(views[name], side) for side in sides) == letters, name


@pytest.mark.parametrize("axes", ["LPS", "LAS", "PIR", "SAL"])
def test_the_picture_does_not_depend_on_how_the_scan_is_stored(axes, picture, tmp_path):
    save_preview(tmp_path / "turned.png", *turned(*corner_phantom(), axes), NAMES, title="corner $ phantom_1")
    views = views_of(pixels(tmp_path / "turned.png"))
    for name, view in views_of(picture).items():
        np.testing.assert_array_equal(views[name], view, err_msg=name)


def test_the_reference_is_a_white_outline(picture, tmp_path):
    volume, labels = corner_phantom()
    reference = np.roll(labels, -10, axis=2)
    save_preview(tmp_path / "p.png", volume, labels, NAMES, reference, {1: 0.0})
    plane = views_of(pixels(tmp_path / "p.png"))["coronal"]
    is_new = plane.min(axis=-1) - views_of(picture)["coronal"].min(axis=-1) > 100
    rows, columns = np.nonzero(is_new)
    rows, columns = (rows + 0.5) / plane.shape[0], (columns + 0.5) / plane.shape[1]
    edges = [rows.min(), rows.max(), columns.min(), columns.max()]
    assert edges == pytest.approx([2 / 20, 6 / 20, 1 - 16 / 28, 1 - 10 / 28], abs=0.01)


def test_what_lies_off_all_planes_is_seen_in_the_projection(picture, tmp_path):
    volume, labels = corner_phantom()
    labels[2:5, 2:4, 3:6] = 2  # to the left, behind, below; too small to move the planes off the block
    save_preview(tmp_path / "p.png", volume, labels, {**NAMES, 2: "small"}, title="corner $ phantom_1")
    views, before = views_of(pixels(tmp_path / "p.png")), views_of(picture)
    for name in ("coronal", "sagittal", "axial"):
        assert ndimage.label(is_coloured(views[name]))[1] == 1, name
    is_new = is_coloured(views["projection"]) & ~is_coloured(before["projection"])
    where = np.array(ndimage.center_of_mass(is_new)) / is_new.shape
    assert where == pytest.approx((1 - 3.5 / 20, 1 - 4.5 / 28), abs=0.03)


def test_all_structures_of_a_body(tmp_path):
    random = np.random.default_rng(0)
    labels = np.kron(random.integers(0, 105, (6, 6, 6)), np.ones((4, 4, 4), dtype=int)).astype(np.uint8)
    image = random.integers(-1024, 1500, labels.shape).astype(np.int16)
    save_preview(
        tmp_path / "p.png", Volume(image[None], np.diag([3.0, 3.0, 5.0, 1.0])), labels, dict(enumerate(LABELS))
    )
    assert min(pixels(tmp_path / "p.png").shape[:2]) > 800


@pytest.mark.parametrize("shape", [(1, 40, 40), (200, 9, 9), (3, 1, 1)])
def test_grids_of_any_shape(shape, tmp_path):
    for labels in (np.zeros(shape, dtype=np.uint8), np.ones(shape, dtype=np.uint8)):
        save_preview(tmp_path / "p.png", Volume(np.full((1, *shape), np.nan, np.float32), np.eye(4)), labels, NAMES)
        assert pixels(tmp_path / "p.png").size


def test_threads_draw_the_same(tmp_path):
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda path: save_preview(path, *corner_phantom(), NAMES), paths))
    assert len({path.read_bytes() for path in paths}) == 1


def test_bad_arguments(tmp_path):
    volume, labels = corner_phantom()
    with pytest.raises(ValueError, match="do not fit"):
        save_preview(tmp_path / "p.png", volume, labels[1:], NAMES)
    with pytest.raises(UserError, match=r"absent.*cannot be written"):
        save_preview(tmp_path / "absent" / "p.png", volume, labels, NAMES)
    assert not list(tmp_path.iterdir())
