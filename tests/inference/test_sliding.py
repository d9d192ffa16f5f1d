"""Streaming equals a simple implementation that keeps everything in memory."""

import pytest
import torch

from stunet.inference.backends.torch_backend import TorchBackend
from stunet.inference.mirroring import mirrored_axes
from stunet.inference.sliding import Sliding, feature_planes
from tests.inference.samples import WINDOW, WholeImage, plain_logits, tiny_network

CPU = torch.device("cpu")


def streamed_logits(image, networks, **options):
    backend = TorchBackend(networks, CPU)
    planes_ZYXF = torch.stack(list(feature_planes(WholeImage(image), backend, Sliding(WINDOW, **options))))
    logits_MK = backend.head.logits(planes_ZYXF.flatten(0, 2))
    return logits_MK.T.reshape(-1, *planes_ZYXF.shape[:3])


def assert_equal_logits(ours, plain):
    assert ours.shape == plain.shape
    assert (ours - plain).abs().max() <= 2e-5 * plain.std()


@pytest.mark.parametrize("num_classes", [12, 3], ids=["features", "logits"])
@pytest.mark.parametrize("shape", [(21, 30, 17), (8, 16, 16), (5, 33, 9), (1, 1, 1)], ids=str)
def test_equals_plain(shape, num_classes):
    torch.manual_seed(0)
    image, network = torch.randn(1, *shape), tiny_network(num_classes)
    assert_equal_logits(streamed_logits(image, [network]), plain_logits(image, [network]))


@pytest.mark.parametrize("num_classes", [30, 3], ids=["features", "logits"])
def test_folds_are_averaged_before_the_argmax(num_classes):
    torch.manual_seed(0)
    image = torch.randn(2, 13, 18, 20)
    networks = [tiny_network(num_classes, 2, seed) for seed in range(3)]
    assert_equal_logits(streamed_logits(image, networks), plain_logits(image, networks))


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_mirroring(axes):
    torch.manual_seed(0)
    image, network = torch.randn(1, 10, 18, 20), tiny_network()
    plain = plain_logits(image, [network], mirror_axes=mirrored_axes(axes))
    assert len(mirrored_axes(axes)) == 2 ** len(axes)
    assert_equal_logits(streamed_logits(image, [network], mirror_axes=axes), plain)


@pytest.mark.parametrize("batch_size", [2, 3, 100])
def test_batches_and_steps(batch_size):
    torch.manual_seed(0)
    image, network = torch.randn(1, 13, 30, 30), tiny_network()
    streamed = streamed_logits(image, [network], batch_size=batch_size, step=0.75)
    assert_equal_logits(streamed, plain_logits(image, [network], step=0.75))


def test_progress_and_streaming():
    image, network = torch.randn(1, 16, 24, 16), tiny_network()
    told = []
    backend = TorchBackend([network], CPU)
    planes = feature_planes(
        WholeImage(image), backend, Sliding(WINDOW), on_window=lambda *numbers: told.append(numbers)
    )
    next(planes)
    assert told == [(1, 6), (2, 6)]
    assert len(list(planes)) == 15
    assert told[-1] == (6, 6)
