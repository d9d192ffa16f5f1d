"""The instance norm: equal to torch's own, and layout kept."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from stunet.networks.norm import InstanceNorm, instance_norm_by_sample, is_channels_last
from stunet.networks.stunet import STUNet


def channels_last(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Normal values around 3, in channels-last layout."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(*shape, generator=generator, dtype=dtype) + 3
    return values.to(memory_format=torch.channels_last_3d)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_sample_by_sample_equals_torchs_own_and_keeps_the_layout(samples):
    x, weight, bias = channels_last(samples, 5, 6, 7, 8), torch.rand(5).double(), torch.rand(5).double()
    normalised = instance_norm_by_sample(x, weight, bias, 1e-5)
    torch.testing.assert_close(normalised, functional.instance_norm(x, weight=weight, bias=bias), rtol=0, atol=1e-12)
    assert is_channels_last(normalised)
    assert not is_channels_last(functional.instance_norm(x, weight=weight, bias=bias))  # the fault


@pytest.mark.parametrize("samples", [1, 2])
def test_gradients_equal_torchs_own(samples):
    values, weights = [], (torch.rand(5).double(), torch.rand(5).double())
    for norm in (instance_norm_by_sample, lambda x, w, b, eps: functional.instance_norm(x, weight=w, bias=b, eps=eps)):
        inputs = [tensor.clone().requires_grad_() for tensor in (channels_last(samples, 5, 6, 7, 8), *weights)]
        norm(*inputs, 1e-5).square().sin().sum().backward()
        values.append([tensor.grad for tensor in inputs])
    torch.testing.assert_close(values[0], values[1], rtol=1e-9, atol=1e-10)


class OnGpu(torch.Tensor):
    """A tensor that says it is on a GPU."""

    is_cuda = True


def test_only_on_a_gpu_is_the_layout_kept():
    x, norm = channels_last(2, 8, 4, 4, 4), InstanceNorm(8, affine=True).double()
    assert is_channels_last(norm(x.as_subclass(OnGpu)))
    assert not is_channels_last(norm(x))
    assert not is_channels_last(norm(x.contiguous().as_subclass(OnGpu)))


def test_on_a_cpu_it_is_torchs_own_to_the_bit():
    x = channels_last(2, 4, 8, 8, 8, dtype=torch.float32)
    norm, torchs = InstanceNorm(4, affine=True), nn.InstanceNorm3d(4, affine=True)
    assert torch.equal(norm(x), torchs(x))
    assert norm.state_dict().keys() == torchs.state_dict().keys()


def test_all_norms_of_a_network_are_of_this_kind():
    network = STUNet(1, 2, width=4)
    norms = [module for module in network.modules() if isinstance(module, nn.InstanceNorm3d)]
    assert norms
    assert {type(norm) for norm in norms} == {InstanceNorm}
