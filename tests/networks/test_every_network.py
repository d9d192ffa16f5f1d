"""Each entry of NETWORKS: shapes, gradients, state dict, heads, and its declared head and stem."""

import pytest
import torch

from stunet.errors import UserError
from stunet.networks.network import Network, twin_of, without_weights
from stunet.networks.registry import NETWORKS, build_network, find_class, find_network
from stunet.networks.stunet import SIZES
from stunet.plans.network_spec import CLASSES, kind_of

WINDOWS = {
    "stunet": (64, 64, 64),
    "nnunet": (64, 64, 64),
    "unet3d": (32, 32, 32),
    "unetr": (32, 32, 32),
    "swin_unetr": (64, 32, 32),
    "nnformer": (32, 64, 64),
}
"""Two images of a size (Z, Y, X) that the network accepts, or one for the slowest kind."""

OPTIONS = {
    "nnunet": {"strides": [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 2, 2]], "kernel_sizes": [[1, 3, 3]] + [[3, 3, 3]] * 3},
    "unetr": {"window_size": [32, 32, 32]},
}
"""The arguments that a plan would set."""

TINY = ["tiny", "nnunet_tiny", "unet3d_tiny", "unetr_tiny", "swin_unetr_tiny", "nnformer_tiny"]
"""One network of each kind, small enough to run."""


def class_of(name: str) -> type[Network]:
    kind = find_network(name).kind
    if kind == "nnunet":
        pytest.importorskip("dynamic_network_architectures")
    if "unetr" in kind:
        pytest.importorskip("monai")
    return find_class(kind)


def built(name: str, input_channels: int, num_classes: int, deep_supervision: bool = False) -> Network:
    class_of(name)
    options = OPTIONS.get(find_network(name).kind, {})
    return build_network(name, input_channels, num_classes, deep_supervision=deep_supervision, **options)


def image_for(name: str, input_channels: int) -> torch.Tensor:
    kind = find_network(name).kind
    return torch.randn(1 if kind == "swin_unetr" else 2, input_channels, *WINDOWS[kind])


def test_there_is_a_tiny_one_of_each_kind():
    assert {find_network(name).kind for name in TINY} == set(CLASSES)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_declared_parameters_exist_and_are_all_that_classes_and_channels_change(name):
    network_class = class_of(name)
    with without_weights():
        one = {key: value.shape for key, value in build_network(name, 1, 3).state_dict().items()}
        two = {key: value.shape for key, value in build_network(name, 2, 5).state_dict().items()}
    changed = {key for key in one if one[key] != two[key]}
    declared = {key for key in one if key.startswith(network_class.head_keys) or key in network_class.stem_keys}
    assert changed == declared
    assert set(network_class.stem_keys) <= set(one)
    assert any(key.startswith(network_class.encoder_keys) for key in one)


@pytest.mark.parametrize("name", list(NETWORKS))
def test_a_twin_has_the_shapes_of_the_network_and_no_weights(name):
    class_of(name)
    with without_weights():
        network = build_network(name, 2, 3)
    twin = twin_of(network)
    assert {k: v.shape for k, v in twin.state_dict().items()} == {k: v.shape for k, v in network.state_dict().items()}
    assert {tensor.device.type for tensor in twin.state_dict().values()} == {"meta"}
    assert kind_of(f"{type(network).__module__}.{type(network).__name__}") == find_network(name).kind


@pytest.mark.parametrize("name", TINY)
def test_shapes_and_the_switch_of_deep_supervision(name):
    torch.manual_seed(0)
    network = built(name, 2, 3).eval()
    image = image_for(name, 2)
    with torch.no_grad():
        logits = network(image)
        assert logits.shape == (len(image), 3, *image.shape[2:])
        torch.testing.assert_close(network.head(network.forward_features(image)), logits)
        if not network.supervises_deeply:
            assert network.supervision_strides == ((1, 1, 1),)
            return
        network.decoder.deep_supervision = True
        several = network(image)
    expected = [tuple(n // s for n, s in zip(image.shape[2:], stride, strict=True)) for stride in strides_of(network)]
    assert [tuple(x.shape[2:]) for x in several] == expected
    torch.testing.assert_close(several[0], logits)


def strides_of(network: Network) -> tuple[tuple[int, ...], ...]:
    assert len(network.supervision_strides) > 1
    return network.supervision_strides


@pytest.mark.parametrize("name", ["unet3d_tiny", "unetr_tiny", "swin_unetr_tiny"])
def test_networks_with_one_head_refuse_deep_supervision(name):
    assert not class_of(name).supervises_deeply
    with pytest.raises(ValueError, match="one head"):
        built(name, 1, 2, deep_supervision=True)


@pytest.mark.parametrize("name", [*TINY, "small"])
def test_every_parameter_gets_a_gradient(name):
    network = built(name, 2, 3, deep_supervision=class_of(name).supervises_deeply)
    outputs = network(image_for(name, 2))
    sum(x.square().mean() for x in (outputs if isinstance(outputs, list) else [outputs])).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []


@pytest.mark.parametrize("name", TINY)
def test_a_state_dict_makes_another_network_the_same(name):
    image = image_for(name, 1)
    torch.manual_seed(0)
    one = built(name, 1, 2).eval()
    torch.manual_seed(1)
    two = built(name, 1, 2).eval()
    with torch.no_grad():
        expected = one(image)
        assert not torch.allclose(two(image), expected)
        two.load_state_dict(one.state_dict())
        assert torch.equal(two(image), expected)
    tensors = list(one.state_dict().values())
    assert len({tensor.data_ptr() for tensor in tensors}) == len(tensors)


@pytest.mark.parametrize("name", TINY)
def test_the_body_goes_under_another_head(name):
    torch.manual_seed(0)
    source, target = built(name, 1, 5).eval(), built(name, 1, 2).eval()
    body = {k: v for k, v in source.state_dict().items() if not k.startswith(source.head_keys)}
    missing, unexpected = target.load_state_dict(body, strict=False)
    assert unexpected == [] and missing and all(key.startswith(target.head_keys) for key in missing)
    if isinstance(source.head, torch.nn.Identity):
        return  # its features are the logits, which another test checks
    image = image_for(name, 1)
    with torch.no_grad():
        torch.testing.assert_close(target.forward_features(image), source.forward_features(image))


@pytest.mark.parametrize("name", TINY)
def test_a_window_that_does_not_fit_is_refused_with_the_multiples(name):
    network = built(name, 1, 2)
    with pytest.raises(ValueError, match=r"not divisible|built for windows of \(32, 32, 32\)"):
        network(torch.zeros(1, 1, 40, 24, 42))


@pytest.mark.parametrize("name", TINY)
def test_the_same_seed_gives_the_same_network(name):
    torch.manual_seed(3)
    one = built(name, 1, 2).state_dict()
    torch.manual_seed(3)
    two = built(name, 1, 2).state_dict()
    assert all(torch.equal(one[key], two[key]) for key in one)


def test_sizes_of_stunet_are_networks_with_the_parameters_of_table_2():
    assert list(SIZES) == list(NETWORKS)[: len(SIZES)]
    for name, size in SIZES.items():
        published = NETWORKS[name].published
        assert (published and float(published.parameters)) == size.million_parameters


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(UserError, match=r"no network 'hugee'.*Did you mean 'huge'.*tiny, small"):
        build_network("hugee", 1, 2)


def test_a_missing_package_is_asked_for_by_its_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "monai.networks.nets.unetr", None)
    with pytest.raises(UserError, match=r"monai.*'\.\[baselines\]'"):
        build_network("unetr_tiny", 1, 2)
