import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stunet.labels.ontology import COLOURS, LABELS
from stunet.pictures.preview_legend import LONGEST_BLOCK, Legend, Row, draw_legend, make_legend

COLOUR_OF = {label: np.array(COLOURS[name]) / 255 for label, name in enumerate(LABELS) if label}


def legend(structures: int, dsc: float | None = None, mm3: float = 1_234_567.0, has_reference: bool = False) -> Legend:
    """The first structures, each one mm³ smaller than the previous one."""
    rows = (Row(label, LABELS[label].replace("_", " "), mm3 - label, dsc) for label in range(1, structures + 1))
    return Legend(tuple(rows), has_reference)


def texts(one: Legend, width: float, height: float) -> tuple[list[str], np.ndarray]:
    """The texts, and their boxes (left, bottom, right, top) in inches from the lower left corner."""
    blocks = one.blocks(width, height)
    size = (width, max(height, one.height(blocks)))
    figure = Figure(figsize=size, dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    draw_legend(axes, one, COLOUR_OF, size, blocks, mm_per_inch=40.0)
    canvas.draw()
    boxes = [text.get_window_extent(canvas.get_renderer()).extents / 100 for text in axes.texts]
    return [text.get_text() for text in axes.texts], np.array(boxes)


@pytest.mark.parametrize("dsc", [None, 0.987])
@pytest.mark.parametrize("width", [3.4, 4.4, 7.8])
@pytest.mark.parametrize("structures", [0, 1, 2, 57, 104])
def test_words_lie_in_the_legend_and_do_not_meet(structures, width, dsc):
    one = legend(structures, dsc, has_reference=dsc is not None)
    height = max(3.5, one.height(one.blocks(width, 3.5)))
    _, boxes = texts(one, width, 3.5)
    assert (boxes[:, :2] > -0.02).all()
    assert (boxes[:, 2] < width + 0.02).all() and (boxes[:, 3] < height + 0.02).all()
    for number, (left, bottom, right, top) in enumerate(boxes):
        others = np.delete(boxes, number, axis=0)
        across = np.minimum(right, others[:, 2]) - np.maximum(left, others[:, 0])
        down = np.minimum(top, others[:, 3]) - np.maximum(bottom, others[:, 1])
        assert not ((across > 0) & (down > 0.02)).any()


def test_all_structures_of_an_abdomen_are_named_beside_its_axial_plane():
    words, _ = texts(legend(57), 7.76, 3.5)
    assert {LABELS[label].replace("_", " ") for label in range(1, 58)} <= set(words)
    assert words.count("structure") == 3


@pytest.mark.parametrize("structures", range(20, 58))
def test_names_are_not_cut_for_the_sake_of_larger_letters(structures):
    words, _ = texts(legend(structures), 7.76, 3.5)
    assert {LABELS[label].replace("_", " ") for label in range(1, structures + 1)} <= set(words)


def test_few_structures_stand_in_one_block():
    one = legend(3)
    assert one.blocks(7.76, 3.5) == 1
    words, _ = texts(one, 7.76, 3.5)
    assert words.count("structure") == 1


def test_those_without_room_are_counted_and_the_smallest():
    words, _ = texts(legend(104), 3.4, 3.0)
    shown = {LABELS[label].replace("_", " ") for label in range(1, LONGEST_BLOCK + 1)}
    assert shown <= set(words)
    assert f"and {104 - LONGEST_BLOCK} more structures" in words


def test_units():
    words, _ = texts(legend(2, mm3=20_000.0), 3.4, 3.0)
    assert {"mm³", "19,999", "19,998"} <= set(words)
    words, _ = texts(legend(2, mm3=1_234_567.0), 3.4, 3.0)
    assert {"ml", "1,234.6"} <= set(words)


def test_dsc_and_reference():
    words, _ = texts(legend(2, dsc=0.9, has_reference=True), 3.4, 3.0)
    assert words.count("0.900") == 2 and {"DSC", "outline of the reference"} <= set(words)
    words, _ = texts(legend(2), 3.4, 3.0)
    assert not {"DSC", "outline of the reference"} & set(words)


def test_what_is_there_is_counted():
    labels = np.zeros((3, 4, 5), dtype=np.uint16)
    labels[0, 0, :3], labels[2], labels[1, 1, 1] = 1, 3, 900
    one = make_legend(labels, {0: "background", 1: "big_toe", 2: "absent", 3: "heel"}, 2.0, {3: 0.5}, True)
    assert one == Legend((Row(1, "big toe", 6.0, None), Row(3, "heel", 40.0, 0.5)), True)
    words, _ = texts(make_legend(labels * 0, {0: "background", 1: "big_toe"}, 2.0, None, False), 3.4, 3.0)
    assert "no structure was found" in words
