"""The log compared with the memory of real tensors."""

import pytest
import torch
from torch import nn

from stunet.networks.memory import AllocationLog, bytes_of, without_memory
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet

MEBIBYTE = 2**20


def tiny() -> STUNet:
    """A network for two channels, five classes and patches of 32 voxels."""
    return build(network_spec("tiny", 2, 5, strides=PUBLISHED_STRIDES), deep_supervision=True)


def kept_bytes(network: STUNet, image_BCZYX: torch.Tensor) -> int:
    """Real memory: tensors that autograd saves for the backward pass, and the logits."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network(image_BCZYX)
    for tensor in logits:
        keep(tensor)
    for tensor in (*network.parameters(), image_BCZYX):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(kept.values())


@pytest.mark.parametrize(("precision", "tolerance"), [(torch.float32, 0), (torch.bfloat16, 5e-4)])
def test_what_a_forward_pass_keeps_is_counted_to_the_byte(precision, tolerance):
    """Except for the statistics of norms, which are float32, but which torch reports as bfloat16."""

    def autocast():
        return torch.autocast("cpu", precision, enabled=precision != torch.float32, cache_enabled=False)

    with autocast():
        expected = kept_bytes(tiny(), torch.randn(1, 2, 32, 32, 32))
    with without_memory():
        network, image_BCZYX = tiny(), torch.empty(1, 2, 32, 32, 32)
        with AllocationLog([*network.parameters(), image_BCZYX]) as log, autocast():
            logits = network(image_BCZYX)
        left = sum(log.changes)
    assert len(logits) == 5
    assert expected > 4 * MEBIBYTE
    assert abs(left - expected) <= tolerance * expected


def test_peak_views_and_what_was_there_before():
    with without_memory():
        held = torch.empty(MEBIBYTE, dtype=torch.uint8)
        with AllocationLog([held]) as log:
            first = held + 1
            second = first.view(2, -1).T + 1
            del first
            third = second[0]
            held.add_(1)
            del second
            number = log.number_of(third)
        changes = zip(log.owners, log.changes, strict=True)
        assert log.peak_bytes == 2 * MEBIBYTE
        assert sum(log.changes) == MEBIBYTE
        assert [size for owner, size in changes if owner == number] == [MEBIBYTE]


def test_the_arguments_of_a_convolution_count_twice_while_it_runs():
    with without_memory():
        convolution, image_BCZYX = nn.Conv3d(2, 3, 3, padding=1), torch.empty(1, 2, 16, 16, 16)
        arguments = [*convolution.parameters(), image_BCZYX]
        with AllocationLog(arguments) as log, torch.no_grad():
            output = convolution(image_BCZYX)
        assert log.peak_bytes == bytes_of(arguments) + bytes_of([output])
        assert sum(log.changes) == bytes_of([output])


def test_inference_mode_hides_nothing():
    peaks = []
    for without_gradients in (torch.no_grad, torch.inference_mode):
        with without_memory():
            network, image_BCZYX = tiny().eval(), torch.empty(1, 2, 32, 32, 32)
            with AllocationLog(network.parameters()) as log, without_gradients():
                network(image_BCZYX)
            peaks.append(log.peak_bytes)
    assert peaks[0] == peaks[1] > MEBIBYTE


def test_a_network_of_any_size_takes_no_memory():
    with without_memory():
        network = build(network_spec("huge", 1, 105))
        assert bytes_of(network.parameters()) == 4 * 1_457_326_221
