"""The step in parts against the step as a whole. (That the whole is nnU-Net's: test_trainer.py.)"""

from contextlib import contextmanager

import pytest
import torch

from stunet.networks.stunet import STUNet, six_strides
from stunet.training.step import accumulate_gradients, parts_of, update


def small_network() -> STUNet:
    torch.manual_seed(0)
    return STUNet(1, 3, width=4, depth=1, strides=six_strides([(1, 1, 1)] + [(2, 2, 2)] * 3), deep_supervision=True)


def batch(size=4):
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(size, 1, 32, 32, 32, generator=generator)
    return image, [torch.randint(0, 3, (size, 1, n, n, n), generator=generator) for n in (32, 16, 8, 4, 4)]


def cross_entropy_of(network):
    def loss_of(image_BCZYX, target):
        logits = network(image_BCZYX)
        scales = zip(logits, target, strict=True)
        return sum(torch.nn.functional.cross_entropy(x, y[:, 0]) / 2**s for s, (x, y) in enumerate(scales))

    return loss_of


def gradients(network, parts=1):
    """In float64, where rounding cannot hide a wrong share."""
    network.double().zero_grad()
    image, target = batch()
    loss = accumulate_gradients(cross_entropy_of(network), image.double(), target, parts)
    return loss, {name: parameter.grad.clone() for name, parameter in network.named_parameters()}


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_the_gradient_of_parts_is_that_of_the_whole(parts):
    network = small_network()
    loss, whole = gradients(network)
    loss_in_parts, in_parts = gradients(network, parts)
    assert float(loss_in_parts) == pytest.approx(float(loss), rel=1e-6)
    scale = max(float(gradient.abs().max()) for gradient in whole.values())
    difference = max(float((in_parts[name] - gradient).abs().max()) for name, gradient in whole.items())
    print(f"{parts} parts: largest difference {difference / scale:.1e} of the largest gradient")
    assert difference < 1e-10 * scale


def test_a_batch_in_parts_is_exchanged_once():
    """For every part but the last the processes keep their gradients to themselves."""
    kept_to_itself = []

    @contextmanager
    def without_exchange():
        kept_to_itself.append(True)
        yield
        kept_to_itself.append(False)

    seen = []
    network = small_network()
    cross_entropy = cross_entropy_of(network)

    def loss_of(image_BCZYX, target):
        seen.append(bool(kept_to_itself) and kept_to_itself[-1])
        return cross_entropy(image_BCZYX, target)

    accumulate_gradients(loss_of, *batch(), 4, without_exchange=without_exchange)
    assert seen == [True, True, True, False]


def test_parts_are_even_and_whole():
    image, target = batch(5)
    cut = list(parts_of(image, target, 2))
    assert [len(part) for part, _, _ in cut] == [3, 2]
    assert [share for _, _, share in cut] == [0.6, 0.4]
    assert torch.equal(torch.cat([part for part, _, _ in cut]), image)
    assert torch.equal(torch.cat([scales[2] for _, scales, _ in cut]), target[2])
    with pytest.raises(ValueError, match="batch of 5 cannot be divided into 6"):
        list(parts_of(image, target, 6))


def test_gradients_are_clipped_as_nnunet_does():
    network = torch.nn.Linear(3, 1, bias=False)
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    before = network.weight.detach().clone()
    network.weight.grad = torch.full((1, 3), 100.0)
    update(network, optimizer)
    assert float((before - network.weight).norm()) == pytest.approx(12, rel=1e-4)
