"""The Dice similarity coefficient (DSC), the paper's metric (section 4, evaluation metric)."""

import math

import numpy as np


def dice_per_label(prediction: np.ndarray, reference: np.ndarray, labels: list[int]) -> dict[int, float]:
    """DSC of each label: 2 |P and R| / (|P| + |R|).

    Empty cases are as in nnU-Net: a label absent from both is nan, and a label absent from one of them is 0.

    Args:
        prediction: integers, of any shape.
        reference: integers, of the same shape.
        labels: the values to score.

    Raises:
        ValueError: the shapes differ.

    >>> prediction = np.array([0, 1, 1, 2, 0])
    >>> reference = np.array([0, 1, 0, 0, 3])
    >>> dice_per_label(prediction, reference, [1, 2, 3, 4])
    {1: 0.6666666666666666, 2: 0.0, 3: 0.0, 4: nan}
    """
    if prediction.shape != reference.shape:
        raise ValueError(f"prediction has shape {prediction.shape}, reference {reference.shape}")
    overlap = prediction[prediction == reference]
    in_prediction, in_reference, in_both = (_counts(values, labels) for values in (prediction, reference, overlap))
    return {
        label: 2 * in_both[label] / total if (total := in_prediction[label] + in_reference[label]) else math.nan
        for label in labels
    }


def dice(prediction: np.ndarray, reference: np.ndarray) -> float:
    """DSC of two masks: 2 |P and R| / (|P| + |R|); 0 if one of them is empty, nan if both are.

    Args:
        prediction: booleans, of any shape.
        reference: booleans, of the same shape.
    """
    total = np.count_nonzero(prediction) + np.count_nonzero(reference)
    return 2 * np.count_nonzero(prediction & reference) / total if total else math.nan


def _counts(values: np.ndarray, labels: list[int]) -> dict[int, int]:
    """The number of voxels of each label."""
    present, counts = np.unique(values, return_counts=True)
    found = dict(zip(present.tolist(), counts.tolist(), strict=True))
    return {label: found.get(label, 0) for label in labels}


def none_if_nan(value: float) -> float | None:
    """The value, or None for nan, as in JSON and CSV."""
    return None if math.isnan(value) else value


def mean_ignoring_nan(values: list[float]) -> float:
    """The mean of the values, ignoring nan; nan if there are none.

    >>> mean_ignoring_nan([1.0, math.nan, 0.0])
    0.5
    """
    numbers = [value for value in values if not math.isnan(value)]
    return sum(numbers) / len(numbers) if numbers else math.nan
