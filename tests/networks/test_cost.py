"""Counts against the paper's Tables 2, 6 and 7, and against the real torchinfo."""

import pytest

from stunet.networks.cost import network_cost
from stunet.networks.stunet import PUBLISHED_STRIDES, SIZES, STUNetConfig, build_stunet, scale

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
    cost = network_cost(STUNetConfig(1, 105, size.width, size.depth, **options))
    assert f"{cost.parameters / 1e6:.2f}" == parameters
    assert f"{cost.torchinfo_mult_adds / 1e12:.2f}" == flops
    assert cost.macs / 1e12 == pytest.approx(macs, abs=5e-5)


def test_mult_adds_are_what_torchinfo_says():
    torchinfo = pytest.importorskip("torchinfo")
    config = STUNetConfig(2, 7, width=4, depth=2, upsampling="transposed", downsampling="convolution")
    patch = (32, 64, 32)
    network = build_stunet(config, deep_supervision=True)
    summary = torchinfo.summary(network, (1, 2, *patch), verbose=0, device="cpu", mode="train")
    assert network_cost(config, patch).torchinfo_mult_adds == summary.total_mult_adds


@pytest.mark.parametrize(
    ("size", "strides", "macs"),
    [("base", None, 0.4967), ("large", None, 3.7702), ("huge", None, 12.5219)],
)
def test_inference_does_less(size, strides, macs):
    """The convolution before nearest up-sampling, and no auxiliary heads."""
    cost = network_cost(STUNetConfig(1, 105, SIZES[size].width, SIZES[size].depth))
    assert cost.inference_macs / 1e12 == pytest.approx(macs, abs=5e-5)


@pytest.mark.parametrize(("size", "macs"), [("small", 0.1301), ("base", 0.5090), ("large", 3.8255), ("huge", 12.6672)])
def test_published_strides_cost_a_little_more(size, macs):
    config = STUNetConfig(1, 105, SIZES[size].width, SIZES[size].depth, PUBLISHED_STRIDES)
    assert network_cost(config).macs / 1e12 == pytest.approx(macs, abs=5e-5)


def test_the_parameters_do_not_depend_on_the_patch():
    cost = network_cost(STUNetConfig(1, 105, 96, 3), (64, 64, 64))
    assert cost.parameters == 1_457_326_221
