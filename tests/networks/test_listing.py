import pytest

from stunet.networks.listing import list_networks
from stunet.networks.registry import NETWORKS


def test_the_list_counts_as_the_paper_does():
    listed = {network.name: network for network in list_networks()}
    assert list(listed) == list(NETWORKS) and listed["base"].title == "STU-Net-B"
    for name in ("small", "base", "large", "huge", "nnunet", "nnformer"):
        assert listed[name].parameters() / 1e6 == pytest.approx(float(NETWORKS[name].published.parameters), abs=0.006)
    assert listed["base"].parameters(num_classes=2) < listed["base"].parameters()
