"""Counts compared with the paper's Tables 2, 6 and 7, and with torchinfo."""

import pytest
import torch

from stunet.networks.cost import cost_of, count_macs, count_torchinfo_mult_adds, network_cost, training_macs
from stunet.networks.registry import NETWORKS, build_network, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES, SIZES, STUNet, scale
from stunet.plans.network_spec import NetworkSpec


def require_package_of(name: str) -> None:
    if "unetr" in name:
        pytest.importorskip("monai")
    if name.startswith("nnunet"):
        pytest.importorskip("dynamic_network_architectures")


# name, configuration, parameters (M) and FLOPs (T) as the paper prints them, true MACs (T) as measured elsewhere
ROWS = [
    ("Table 2: small", SIZES["small"], {}, "14.60", "0.13", 0.1294),
    ("Table 2: base", SIZES["base"], {}, "58.26", "0.51", 0.5062),
    ("Table 2: large", SIZES["large"], {}, "440.30", "3.81", 3.8035),
    ("Table 2: huge", SIZES["huge"], {}, "1457.33", "12.60", 12.5934),
    ("Table 6: convolution", SIZES["base"], {"downsampling": "convolution"}, "66.02", "0.54", 0.5406),
    ("Table 6: transposed", SIZES["base"], {"upsampling": "transposed"}, "61.32", "0.56", 0.5062),
    ("Table 6: trilinear", SIZES["base"], {"upsampling": "trilinear"}, "58.26", "0.51", 0.5062),
    ("Table 7: w=2", scale(width=2), {}, "232.80", "2.00", 2.0024),
    ("Table 7: w=3", scale(width=3), {}, "523.62", "4.49", 4.4886),
    ("Table 7: w=4", scale(width=4), {}, "930.71", "7.97", 7.9647),
    ("Table 7: d=2", scale(depth=2), {}, "110.15", "0.96", 0.9565),
    ("Table 7: d=3", scale(depth=3), {}, "162.03", "1.41", 1.4068),
    ("Table 7: d=4", scale(depth=4), {}, "213.91", "1.86", 1.8570),
]


@pytest.mark.parametrize(("row", "size", "options", "parameters", "flops", "macs"), ROWS, ids=[r[0] for r in ROWS])
def test_counts_equal_the_paper_to_its_last_digit(row, size, options, parameters, flops, macs):
    cost = network_cost(NetworkSpec("stunet", 1, 105, {"width": size.width, "depth": size.depth, **options}))
    assert f"{cost.parameters / 1e6:.2f}" == parameters
    assert f"{cost.torchinfo_mult_adds / 1e12:.2f}" == flops
    assert cost.macs / 1e12 == pytest.approx(macs, abs=5e-5)


# name, and as printed in Tables 2, 3, 6 and 7: parameters (M) and FLOPs (T); true MACs (T) as measured elsewhere
SYSTEMS = [
    ("small", "14.60", "0.13", 0.1294),
    ("base", "58.26", "0.51", 0.5062),
    ("large", "440.30", "3.81", 3.8035),
    ("huge", "1457.33", "12.60", 12.5934),
    ("base_convolution", "66.02", "0.54", 0.5406),
    ("base_transposed", "61.32", "0.56", 0.5062),
    ("base_trilinear", "58.26", "0.51", 0.5062),
    ("base_w2", "232.80", "2.00", 2.0024),
    ("base_w3", "523.62", "4.49", 4.4886),
    ("base_w4", "930.71", "7.97", 7.9647),
    ("base_d2", "110.15", "0.96", 0.9565),
    ("base_d3", "162.03", "1.41", 1.4068),
    ("base_d4", "213.91", "1.86", 1.8570),
    ("nnunet", "31.28", "0.54", 0.4865),
    ("nnunet_star", "60.18", "0.55", 0.4968),
    ("nnunet_star_w2", "240.47", "2.19", 1.9649),
    ("nnunet_star_w3", "540.88", "4.92", 4.4043),
    ("nnunet_star_w4", "961.40", "8.73", 7.8149),
    ("nnunet_star_d2", "112.06", "1.01", 0.9471),
    ("nnunet_star_d3", "163.94", "1.46", 1.3974),
    ("nnunet_star_d4", "215.83", "1.91", 1.8476),
    ("nnunet_star_d2_w2", "447.97", "4.00", 3.7660),
    ("nnunet_star_d3_w3", "1474.59", "13.03", 12.5091),
    ("unetr_s", "93.01", "0.16", 0.1794),
    ("unetr_b", "102.02", "0.59", 0.5567),
    ("swin_unetr_s", "15.71", "0.19", 0.2047),
    ("swin_unetr_b", "62.19", "0.76", 0.7732),
    ("swin_unetr_l", "248.1", "2.99", 3.0014),
    ("nnformer", "153.97", "2.04", 0.4735),
]


@pytest.mark.parametrize(("name", "parameters", "flops", "macs"), SYSTEMS, ids=[row[0] for row in SYSTEMS])
def test_every_system_of_the_paper_counts_as_printed(name, parameters, flops, macs):
    require_package_of(name)
    cost = cost_of(name)
    assert f"{cost.parameters / 1e6:.{len(parameters.split('.')[1])}f}" == parameters
    assert f"{cost.torchinfo_mult_adds / 1e12:.2f}" == flops
    assert cost.macs / 1e12 == pytest.approx(macs, abs=5e-5)
    published = NETWORKS[name].published
    assert (published.parameters, published.flops) == (parameters, flops)


def test_every_published_network_is_counted():
    assert {name for name, entry in NETWORKS.items() if entry.published} == {row[0] for row in SYSTEMS}


SMALL = [("nnunet_tiny", 64), ("unet3d_tiny", 32), ("unetr_tiny", 32), ("swin_unetr_tiny", 64), ("nnformer_tiny", 64)]


@pytest.mark.parametrize(("name", "edge"), SMALL)
def test_mult_adds_of_other_systems_are_what_torchinfo_says(name, edge):
    torchinfo = pytest.importorskip("torchinfo")
    require_package_of(name)
    options = {"window_size": [edge] * 3} if name.startswith("unetr") else {}
    network = build_network(name, 2, 3, **options)
    summary = torchinfo.summary(network, (1, 2, edge, edge, edge), verbose=0, device="cpu", mode="train")
    assert count_torchinfo_mult_adds(network, torch.zeros(1, 2, edge, edge, edge)) == summary.total_mult_adds


def test_macs_of_a_network_at_hand():
    network = build_network("nnunet_tiny", 1, 3, deep_supervision=True)
    assert training_macs(network, (32, 64, 32)) == count_macs(network, torch.zeros(1, 1, 32, 64, 32))


def test_mult_adds_are_what_torchinfo_says():
    torchinfo = pytest.importorskip("torchinfo")
    network = STUNet(2, 7, width=4, depth=2, upsampling="transposed", downsampling="convolution", deep_supervision=True)
    patch = (32, 64, 32)
    summary = torchinfo.summary(network, (1, 2, *patch), verbose=0, device="cpu", mode="train")
    assert network_cost(network.spec, patch).torchinfo_mult_adds == summary.total_mult_adds


@pytest.mark.parametrize(
    ("size", "strides", "macs"),
    [("base", None, 0.4967), ("large", None, 3.7702), ("huge", None, 12.5219)],
)
def test_inference_does_less(size, strides, macs):
    """The convolution before nearest up-sampling, and no auxiliary heads."""
    cost = cost_of(size)
    assert cost.inference_macs / 1e12 == pytest.approx(macs, abs=5e-5)


@pytest.mark.parametrize(("size", "macs"), [("small", 0.1301), ("base", 0.5090), ("large", 3.8255), ("huge", 12.6672)])
def test_published_strides_cost_a_little_more(size, macs):
    spec = network_spec(size, 1, 105, strides=PUBLISHED_STRIDES)
    assert network_cost(spec).macs / 1e12 == pytest.approx(macs, abs=5e-5)


def test_the_parameters_do_not_depend_on_the_patch():
    cost = cost_of("huge", patch=(64, 64, 64))
    assert cost.parameters == 1_457_326_221
