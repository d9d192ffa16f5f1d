import numpy as np
import pytest

from stunet.imaging.label_array import count_labels, label_dtype


def test_labels_are_counted_and_those_without_a_name_passed_over() -> None:
    labels = np.array([[[0, 1, 1]], [[3, 9, 0]]], dtype=np.uint8)
    np.testing.assert_array_equal(count_labels(labels, 5), [2, 2, 0, 1, 0])


@pytest.mark.parametrize(
    ("values", "stored"),
    [([0, 255], "uint8"), ([0, 256], "uint16"), ([0, 65535], "uint16"), ([], "uint8")],
)
def test_labels_take_the_smallest_type_that_holds_them(values, stored) -> None:
    assert label_dtype(np.array(values, dtype=np.int64)) == np.dtype(stored)


@pytest.mark.parametrize("values", [np.array([-1]), np.array([65536]), np.array([1.0])])
def test_other_values_are_no_labels(values) -> None:
    with pytest.raises(ValueError, match="labels must"):
        label_dtype(values)
