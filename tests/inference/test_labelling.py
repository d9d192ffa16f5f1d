"""The labels equal those of the full interpolation of every logit at every voxel."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from stunet.inference import head as head_module
from stunet.inference.head import LinearHead, RegionHead
from stunet.inference.interpolation import axis_taps
from stunet.inference.labelling import AskedChooser, Chooser, output_slices
from tests.inference.samples import assert_labels_follow

SHAPES = {
    "up": ((9, 8, 10), (17, 19, 23)),
    "double": ((9, 8, 10), (18, 16, 20)),
    "down": ((21, 16, 20), (9, 11, 7)),
    "half": ((20, 16, 22), (10, 8, 11)),
    "mixed": ((21, 8, 12), (8, 21, 13)),
    "equal": ((7, 9, 8), (7, 9, 8)),
    "one voxel in": ((1, 1, 1), (5, 4, 3)),
    "one voxel out": ((5, 4, 6), (1, 1, 1)),
    "one plane": ((1, 9, 8), (1, 17, 20)),
    "far down": ((40, 7, 9), (3, 10, 10)),
}


def random_case(shape, num_features, num_classes, smooth, seed=0):
    rng = np.random.default_rng(seed)
    features = rng.standard_normal((num_features, *shape))
    if smooth:
        features = ndimage.gaussian_filter(features, (0, 2, 2, 2)) * 10
    weight, bias = rng.standard_normal((num_classes, num_features)), rng.standard_normal(num_classes)
    return tuple(torch.from_numpy(a).float() for a in (features, weight, bias))


def label_slices(planes_YXF, head, network_shape, output_shape, orders, asked=None):
    chooser = Chooser(head) if asked is None else AskedChooser(head, asked)
    for output_slice in output_slices(planes_YXF, head, network_shape, output_shape, orders):
        yield output_slice.labels(chooser)


def streamed(features_FZYX, head, output_shape, orders=(1, 1, 1), asked=None):
    planes = features_FZYX.movedim(0, -1)
    slices = label_slices(planes, head, features_FZYX.shape[1:], output_shape, orders, asked)
    return torch.stack(list(slices)).numpy()


def logits_of(features, weight, bias):
    logits = torch.einsum("kf,fzyx->kzyx", weight.double(), features.double()) + bias.double()[:, None, None, None]
    return logits.numpy()


def zoomed(logits, output_shape):
    factors = [new / old for new, old in zip(output_shape, logits.shape[1:], strict=True)]
    return np.stack([ndimage.zoom(one, factors, order=1, mode="nearest", grid_mode=True) for one in logits])


@pytest.mark.parametrize("smooth", [False, True], ids=["noise", "smooth"])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_full_interpolation(name, smooth):
    shape, output_shape = SHAPES[name]
    features, weight, bias = random_case(shape, 5, 11, smooth)
    labels = streamed(features, LinearHead(weight, bias), output_shape)
    full = zoomed(logits_of(features, weight, bias), output_shape)
    assert labels.shape == tuple(output_shape)
    assert_labels_follow(labels, full, 1e-5)


@pytest.mark.parametrize("name", ["double", "half", "equal"])
def test_ties_go_to_the_first_class(name):
    """Integers, equal logits and weights of quarters: there are many ties, the arithmetic is exact, and all must
    agree."""
    shape, output_shape = SHAPES[name]
    rng = np.random.default_rng(1)
    features = torch.from_numpy(rng.integers(-1, 2, (3, *shape))).float()
    weight = torch.from_numpy(rng.integers(-1, 2, (4, 3))).float()[[2, 0, 1, 0, 3, 2]]
    full = zoomed(logits_of(features, weight, torch.zeros(6)), output_shape)
    highest = np.sort(full, axis=0)
    assert (highest[-1] == highest[-2]).mean() > 0.1
    labels = streamed(features, LinearHead(weight, torch.zeros(6)), output_shape)
    assert np.array_equal(labels, full.argmax(0))


def painted(logits_RZYX, labels):
    """As in nnU-Net's LabelManager.convert_probabilities_to_segmentation."""
    segmentation = np.zeros(logits_RZYX.shape[1:], dtype=np.int16)
    for logits_ZYX, label in zip(logits_RZYX, labels, strict=True):
        segmentation[1 / (1 + np.exp(-logits_ZYX)) > 0.5] = label
    return segmentation


@pytest.mark.parametrize("smooth", [False, True], ids=["noise", "smooth"])
@pytest.mark.parametrize("name", SHAPES)
def test_regions_are_painted_one_over_the_other(name, smooth):
    shape, output_shape = SHAPES[name]
    features, weight, bias = random_case(shape, 5, 4, smooth)
    order = (3, 1, 300, 2)
    labels = streamed(features, RegionHead(weight, bias, order), output_shape)
    full = zoomed(logits_of(features, weight, bias), output_shape)
    is_clear = np.abs(full).min(axis=0) > 1e-5 * full.std()
    assert is_clear.mean() > 0.99
    assert np.array_equal(labels[is_clear], painted(full, order)[is_clear])


def test_background_between_two_regions():
    """Logits 1 - 3x and 3x - 2 for x from 0 to 1: at 0.5 both are below 0, although one is above 0 at each corner."""
    features = torch.tensor([[0.0, 1.0]]).view(1, 1, 1, 2)
    head = RegionHead(torch.tensor([[-3.0], [3.0]]), torch.tensor([1.0, -2.0]), (1, 2))
    assert streamed(features, head, (1, 1, 5)).ravel().tolist() == [1, 1, 0, 2, 2]


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("name", ["up", "down", "half", "double", "mixed", "far down"])
def test_thick_slices_as_nnunet_interpolates_them(axis, name):
    resampling = pytest.importorskip("nnunetv2.preprocessing.resampling.default_resampling")
    shape, output_shape = SHAPES[name]
    features, weight, bias = random_case(shape, 5, 11, smooth=True)
    orders = [0 if a == axis else 1 for a in range(3)]
    labels = streamed(features, LinearHead(weight, bias), output_shape, orders)
    logits = logits_of(features, weight, bias)
    full = resampling.resample_data_or_seg(logits, output_shape, False, axis, 1, True, order_z=0)
    assert_labels_follow(labels, full, 1e-5)


@pytest.mark.parametrize("asked", [(3,), (1, 4, 9), (0,), range(11)], ids=str)
@pytest.mark.parametrize("smooth", [False, True], ids=["noise", "smooth"])
@pytest.mark.parametrize("name", ["up", "down", "mixed", "equal"])
def test_some_classes_are_labelled_as_if_all_were(name, smooth, asked):
    shape, output_shape = SHAPES[name]
    features, weight, bias = random_case(shape, 5, 11, smooth)
    head = LinearHead(weight, bias)
    full = streamed(features, head, output_shape)
    assert np.array_equal(streamed(features, head, output_shape, asked=asked), np.where(np.isin(full, asked), full, 0))


def test_a_class_that_wins_between_two_others_only():
    """Logits 1 - 2x, 0.3 - 0.1x and 2x - 1 for x from 0 to 1: the second is highest at 0.5, but at no corner."""
    features = torch.tensor([0.0, 1.0]).view(1, 1, 1, 2)
    head = LinearHead(torch.tensor([[-2.0], [-0.1], [2.0]]), torch.tensor([1.0, 0.3, -1.0]))
    assert streamed(features, head, (1, 1, 5)).ravel().tolist() == [0, 0, 1, 2, 2]
    assert streamed(features, head, (1, 1, 5), asked=(1,)).ravel().tolist() == [0, 0, 1, 0, 0]


def test_chunks_change_nothing(monkeypatch):
    shape, output_shape = SHAPES["up"]
    features, weight, bias = random_case(shape, 5, 11, smooth=False)
    whole = streamed(features, LinearHead(weight, bias), output_shape)
    monkeypatch.setattr(head_module, "CHUNK_BYTES", 11 * 4 * 7)
    assert np.array_equal(streamed(features, LinearHead(weight, bias), output_shape), whole)


def test_slices_leave_as_soon_as_their_planes_are_there():
    features, weight, bias = random_case((10, 4, 4), 3, 5, smooth=False)
    taken = []

    def planes():
        for z in range(10):
            taken.append(z)
            yield features[:, z].movedim(0, -1)

    slices = label_slices(planes(), LinearHead(weight, bias), (10, 4, 4), (20, 4, 4), (1, 1, 1))
    for number, _ in enumerate(slices):
        assert taken[-1] <= min((number + 1) // 2, 9)


def test_planes_that_no_slice_needs_are_not_labelled(monkeypatch):
    features, weight, bias = random_case((40, 7, 9), 3, 5, smooth=False)
    labelled = []
    plain = LinearHead.labels
    monkeypatch.setattr(LinearHead, "labels", lambda self, x: labelled.append(len(x)) or plain(self, x))
    streamed(features, LinearHead(weight, bias), (4, 7, 9), (0, 1, 1))
    assert len(labelled) == 4


def test_programming_errors():
    with pytest.raises(ValueError, match="order 0 or 1"):
        axis_taps(4, 8, 3)
    features, weight, bias = random_case((4, 4, 4), 3, 5, smooth=False)
    with pytest.raises(ValueError, match="fewer planes"):
        planes = [features[:, 0].movedim(0, -1)]
        list(label_slices(planes, LinearHead(weight, bias), (4, 4, 4), (4, 4, 4), (1, 1, 1)))
