"""The results on the bundled model's card are reproduced."""

import numpy as np
import pytest

from stunet.evaluation.dice import dice_per_label
from stunet.imaging.formats.registry import read_labels, read_volume
from stunet.inference.predictor import InferenceConfig, Predictor


def test_the_figures_on_the_card_are_reached(shared_data):
    """All validation cases, which were not used in training, in float32."""
    dataset = shared_data / "Dataset004_Hippocampus"
    predictor = Predictor("hippocampus", InferenceConfig(backend="torch", precision="float32"))
    metrics = predictor.model.card.metrics
    assert len(metrics["case_names"]) == 40
    scores = []
    for case in metrics["case_names"]:
        labels_ZYX = predictor.predict(read_volume(dataset / "imagesTr" / f"{case}_0000.nii.gz")).labels
        reference_ZYX = read_labels(dataset / "labelsTr" / f"{case}.nii.gz").array[0]
        scores.append(list(dice_per_label(labels_ZYX, reference_ZYX, [1, 2]).values()))
    assert np.mean(scores, axis=0) == pytest.approx(
        [metrics["plain"][part] for part in ("Anterior", "Posterior")], abs=1e-3
    )
    assert np.mean(scores) >= 0.885
