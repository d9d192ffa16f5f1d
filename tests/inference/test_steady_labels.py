"""The labels are those of all logits, computed in float64, whatever the planes before."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from stunet.inference.head import LinearHead, RegionHead
from stunet.inference.steady_labels import SteadyLabels
from tests.inference.samples import assert_labels_follow

CLASSES, FEATURES = 40, 6


def planes_of(step, seed=0):
    """Planes (Z, Y, X, F) that change by about `step` from one to the next, as neighbouring ones of a scan do."""
    rng = np.random.default_rng(seed)
    first = ndimage.gaussian_filter(rng.standard_normal((24, 30, FEATURES)), (2, 2, 0)) * 20
    steps = ndimage.gaussian_filter(rng.standard_normal((12, 24, 30, FEATURES)), (0, 1, 1, 0)) * step
    return torch.from_numpy(first + steps.cumsum(axis=0)).float()


def head_of(seed=1):
    rng = np.random.default_rng(seed)
    return LinearHead(
        *(torch.from_numpy(rng.standard_normal(shape)).float() for shape in ((CLASSES, FEATURES), CLASSES))
    )


def logits_of(planes_ZYXF, head):
    logits = torch.einsum("kf,zyxf->kzyx", head.weight.double(), planes_ZYXF.double())
    return (logits + head.bias.double()[:, None, None, None]).numpy()


def labelled(planes_ZYXF, head, monkeypatch):
    """The labels (Z, Y, X), and the number of voxels whose logits were computed."""
    computed, of_head = [], type(head).labels_and_leads
    monkeypatch.setattr(
        type(head), "labels_and_leads", lambda self, x: computed.append(len(x)) or of_head(self, x), raising=True
    )
    steady = SteadyLabels(head)
    return torch.stack([steady.labels(plane) for plane in planes_ZYXF]).numpy(), sum(computed)


@pytest.mark.parametrize("step", [0.0, 0.02, 0.3, 3.0])
def test_labels_are_those_of_all_logits(step, monkeypatch):
    planes, head = planes_of(step), head_of()
    labels, computed = labelled(planes, head, monkeypatch)
    assert_labels_follow(labels, logits_of(planes, head), 1e-5)
    assert labels.dtype == np.int16
    if step < 0.1:
        assert computed < 0.4 * labels.size, "most logits should not have been needed"
        assert (labels[0] != labels[-1]).any() or step == 0


def test_regions_are_those_of_all_logits(monkeypatch):
    planes, painted = planes_of(0.02), tuple(range(CLASSES, 0, -1))
    head = RegionHead(head_of().weight, head_of().bias - 6, painted)
    labels, computed = labelled(planes, head, monkeypatch)
    logits = logits_of(planes, head)
    last = CLASSES - 1 - (logits > 0)[::-1].argmax(axis=0)
    expected = np.where((logits > 0).any(axis=0), np.array(painted)[last], 0)
    is_clear = np.abs(logits).min(axis=0) > 1e-5
    assert np.array_equal(labels[is_clear], expected[is_clear]) and is_clear.mean() > 0.99
    assert len(np.unique(labels)) > 10 and computed < 0.9 * labels.size


def test_ties_go_to_the_first_class():
    """Features that do not move at all, at exactly equal logits: never within a lead of 0."""
    weight = torch.eye(20)[:, :4]
    weight[7] = weight[3]
    planes = torch.tensor([0.0, 0.0, 0.0, 1.0]).expand(3, 2, 2, 4)
    steady = SteadyLabels(LinearHead(weight, torch.zeros(20)))
    assert all((steady.labels(plane) == 3).all() for plane in planes)


def test_what_is_not_a_number_is_computed_again():
    planes = planes_of(0.0)[:3].clone()
    planes[1, 3, 4] = torch.nan
    steady, head = SteadyLabels(head_of()), head_of()
    found = [steady.labels(plane) for plane in planes]
    assert torch.equal(found[0], found[2])
    assert torch.equal(found[1].flatten(), head.labels(planes[1].flatten(0, 1)))


def test_labels_of_a_plane_are_not_changed_by_later_ones():
    planes, steady = planes_of(3.0), SteadyLabels(head_of())
    first = steady.labels(planes[0])
    copied = first.clone()
    for plane in planes[1:]:
        steady.labels(plane)
    assert torch.equal(first, copied)


def test_leads_count_as_float64_does_less_rounding():
    planes, head = planes_of(0.3), head_of()
    _, leads = head.labels_and_leads(planes.flatten(0, 2))
    logits = np.sort(logits_of(planes, head), axis=0)
    exact = (logits[-1] - logits[-2]).ravel()
    assert np.all(leads.numpy() < exact) and np.abs(leads.numpy() - exact).max() < 1e-3
    assert head.slope == pytest.approx(max(float((a - b).norm()) for a in head.weight for b in head.weight), rel=1e-6)
