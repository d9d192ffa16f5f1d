"""Each entry of NETWORKS: shapes, gradients, state dict, and its declared head and stem."""

import pytest
import torch

from stunet.errors import UserError
from stunet.networks.registry import NETWORKS, build_network, list_networks
from stunet.networks.stunet import SIZES


@pytest.mark.parametrize("name", list_networks())
def test_declared_parameters_exist_and_are_all_that_classes_and_channels_change(name):
    with torch.device("meta"):
        one = {key: value.shape for key, value in build_network(name, 1, 3).state_dict().items()}
        two = {key: value.shape for key, value in build_network(name, 2, 5).state_dict().items()}
    network_class = build_network.__globals__["STUNet"]
    changed = {key for key in one if one[key] != two[key]}
    declared = {key for key in one if key.startswith(network_class.head_keys) or key in network_class.stem_keys}
    assert changed == declared
    if SIZES[name].million_parameters is not None:
        with torch.device("meta"):
            count = sum(p.numel() for p in build_network(name, 1, 105).parameters())
        assert f"{count / 1e6:.2f}" == f"{SIZES[name].million_parameters:.2f}"


@pytest.mark.parametrize("name", ["tiny", "small"])
def test_every_parameter_gets_a_gradient(name):
    network = build_network(name, input_channels=2, num_classes=3, deep_supervision=True)
    sum(x.square().mean() for x in network(torch.randn(1, 2, 64, 64, 64))).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


def test_the_same_seed_gives_the_same_network():
    torch.manual_seed(3)
    one = build_network("tiny", 1, 2).state_dict()
    torch.manual_seed(3)
    two = build_network("tiny", 1, 2).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"no network 'hugee'.*Did you mean 'huge'.*tiny, small"):
        build_network("hugee", 1, 2)
    assert list(NETWORKS) == list(SIZES)
