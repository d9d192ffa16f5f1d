"""Elastic deformation against scipy and against nnU-Net 1's own (batchgenerators)."""

import numpy as np
import torch
from batchgenerators.augmentations.utils import create_zero_centered_coordinate_mesh, elastic_deform_coordinates
from scipy.ndimage import gaussian_filter

from stunet.training.augmentation.elastic import ElasticDeformation, ElasticDraw, displacement, smooth
from tests.training.augmentation.samples import assert_probability, assert_same_distribution, noise

SIZE = (24, 30, 20)


def test_smoothing_is_scipys():
    field = torch.rand(2, *SIZE, generator=noise()) * 2 - 1
    for deviation in (1.3, 9.0, 12.7):
        expected = np.stack([gaussian_filter(f, deviation, mode="constant", cval=0) for f in field.double().numpy()])
        torch.testing.assert_close(smooth(field, deviation).double(), torch.from_numpy(expected), atol=1e-6, rtol=0)


def test_displacements_are_distributed_as_nnunet_1s():
    mesh = create_zero_centered_coordinate_mesh(SIZE)
    random = np.random.default_rng(0)
    np.random.seed(0)
    ours, theirs = [], []
    for seed in range(150):
        draw = ElasticDeformation(probability=1).draw(random, 3)
        ours.append(displacement(draw, SIZE, noise(seed)).std())
        theirs.append(
            (elastic_deform_coordinates(mesh, np.random.uniform(0, 900), np.random.uniform(9, 13)) - mesh).std()
        )
    assert_same_distribution(ours, theirs)


def test_draws_have_nnunet_1s_ranges():
    random = np.random.default_rng(0)
    draws = [ElasticDeformation().draw(random, 3) for _ in range(4000)]
    chosen = [draw for draw in draws if draw]
    assert_probability([bool(draw) for draw in draws], 0.2)
    assert_same_distribution([draw.deviation for draw in chosen], np.linspace(9, 13, 1000))
    assert_same_distribution([draw.strength for draw in chosen], np.linspace(0, 900, 1000))
    in_slices = [ElasticDeformation(probability=1).draw(random, 2).strength for _ in range(1000)]
    assert_same_distribution(in_slices, np.linspace(0, 200, 1000))


def test_a_seed_is_a_field():
    draw = ElasticDraw(9.0, 500.0)
    assert torch.equal(displacement(draw, SIZE, noise(1)), displacement(draw, SIZE, noise(1)))
    assert not torch.equal(displacement(draw, SIZE, noise(1)), displacement(draw, SIZE, noise(2)))
