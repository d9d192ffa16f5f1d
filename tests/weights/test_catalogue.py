"""The catalogue."""

from pathlib import Path

import pytest

from stunet.networks.stunet import SIZES
from stunet.weights.catalogue import CATALOGUE, models_folder


def test_the_catalogue_is_consistent():
    assert set(CATALOGUE) == {"hippocampus", "small", "base", "large", "huge"}
    for name, row in CATALOGUE.items():
        assert row.name == name
        assert row.size in SIZES
    assert CATALOGUE["base"].file == "base_ep4k.model"
    for name in ("small", "base", "large", "huge"):
        parameters = 1e6 * (SIZES[name].million_parameters or 0)
        assert CATALOGUE[name].approximate_bytes == pytest.approx(8 * parameters, rel=0.01)


def test_the_default_home(monkeypatch):
    monkeypatch.delenv("STUNET_HOME", raising=False)
    assert models_folder() == Path.home() / ".stunet" / "models"
