"""nnFormer compared with the counts of Table 3 of the STU-Net paper and with shapes from its description."""

import pytest
import torch

from stunet.networks.cost import count_macs, count_parameters, count_torchinfo_mult_adds
from stunet.networks.nnformer import NNFormer

SMALL = {"width": 12, "heads": 3, "window_sizes": (4, 4, 4, 2)}


def small_network(**options) -> NNFormer:
    torch.manual_seed(0)
    return NNFormer(2, 3, **SMALL, **options).apply(NNFormer.initialize)


@pytest.fixture(scope="module")
def published() -> NNFormer:
    """The configuration of Table 3, on the meta device."""
    with torch.device("meta"):
        return NNFormer(1, 105, deep_supervision=True).eval()


PATCH = torch.empty(1, 1, 128, 128, 128, device="meta")


def test_counts_equal_table_3_to_its_last_digit(published):
    """153.97 M, and 2.04 T by torchinfo; 0.4735 T was measured with the official code."""
    assert f"{count_parameters(published) / 1e6:.2f}" == "153.97"
    assert f"{count_torchinfo_mult_adds(published, PATCH) / 1e12:.2f}" == "2.04"
    assert count_parameters(published) / 1e6 == pytest.approx(153.968, abs=5e-4)
    assert count_torchinfo_mult_adds(published, PATCH) / 1e12 == pytest.approx(2.0370, abs=5e-5)
    assert count_macs(published, PATCH) / 1e12 == pytest.approx(0.4735, abs=5e-5)


def test_torchinfo_itself_says_the_same(published):
    torchinfo = pytest.importorskip("torchinfo")
    summary = torchinfo.summary(published, input_data=PATCH, verbose=0, device="meta", mode="eval")
    assert f"{summary.total_mult_adds / 1e12:.4f}" == "2.0370"
    assert summary.total_params == count_parameters(published)


def test_parameters_follow_from_a_formula(published):
    """Each part counted by hand from the description; C features of a stage, h heads, w tokens along a window."""

    def attention(c, h, w):
        return (4 * c + 4) * c + h * (2 * w - 1) ** 3

    def layer(c, h, w):
        return attention(c, h, w) + 8 * c * c + 5 * c + 4 * c

    def skip_layer(c, h, w):
        return layer(c, h, w) - c * c - c

    def convolution(c, d, kernel=27):
        return c * d * kernel + d

    c, windows, heads = [192, 384, 768, 1536], [4, 4, 8, 4], [6, 12, 24, 48]
    stages = list(zip(c, heads, windows, strict=True))
    embedding = convolution(1, 96) + convolution(96, 96) + convolution(96, 192) + convolution(192, 192)
    embedding += 2 * (96 + 96 + 192 + 192)
    encoder = sum(2 * layer(*stage) + 2 * stage[0] for stage in stages)
    down = sum(convolution(n, 2 * n) + 2 * n for n in c[:-1])
    up = sum(convolution(n, n // 2, 8) + 2 * n for n in c[1:])
    decoder = sum(skip_layer(*stage) + layer(*stage) for stage in stages[:-1])
    heads_of_105 = sum(convolution(n, 105, 2 * 4 * 4) for n in c[:-1])
    assert count_parameters(published) == embedding + encoder + down + up + decoder + heads_of_105 == 153_968_211


@pytest.mark.parametrize(
    ("token", "size"),
    [((2, 4, 4), (128, 128, 128)), ((2, 4, 4), (16, 96, 160)), ((4, 4, 4), (64, 32, 96)), ((1, 2, 4), (40, 16, 64))],
)
def test_every_part_answers_in_the_shape_that_the_description_gives(token, size):
    """Stage s works on maps of the image's size / (token x 2^s) with C 2^s features; heads turn tokens back into
    voxels."""
    c, k = 48, 5
    with torch.device("meta"):
        network = NNFormer(1, k, width=c, heads=3, token_size=token, deep_supervision=True)
    maps = [tuple(n // (t * 2**s) for n, t in zip(size, token, strict=True)) for s in range(4)]
    half = tuple(n // min(t, 2) for n, t in zip(size, token, strict=True))
    expected = {
        "encoder.embedding.0": (c // 2, *half),
        "encoder.embedding.3": (c // 2, *half),
        "encoder.embedding.6": (c, *maps[0]),
        "encoder.embedding": (c, *maps[0]),
    }
    for s in range(4):
        expected |= {f"encoder.stages.{s}": (*maps[s], c * 2**s), f"encoder.norms.{s}": (*maps[s], c * 2**s)}
    for s in range(3):
        fine, coarse = 2 - s, s + 1
        expected |= {
            f"encoder.downsamples.{s}": (c * 2**coarse, *maps[coarse]),
            f"decoder.stages.{s}.upsample": (c * 2**fine, *maps[fine]),
            f"decoder.stages.{s}.join": (*maps[fine], c * 2**fine),
            f"decoder.stages.{s}": (*maps[fine], c * 2**fine),
            f"decoder.seg_layers.{s}": (k, *(n // 2**fine for n in size)),
        }
    seen = {}
    for name, module in network.named_modules():
        if name in expected:
            module.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: tuple(out.shape[1:])}))
    logits = network(torch.empty(2, 1, *size, device="meta"))
    assert seen == expected
    assert [tuple(x.shape) for x in logits] == [(2, k, *(n // 2**s for n in size)) for s in range(3)]


def test_only_the_two_finer_stages_shift_their_windows_and_only_in_every_other_layer(published):
    shifts = {name: m.shifted for name, m in published.named_modules() if hasattr(m, "shifted")}
    shifted = {name for name, value in shifts.items() if value}
    assert shifted == {
        "encoder.stages.0.1",
        "encoder.stages.1.1",
        "decoder.stages.1.layers.0",
        "decoder.stages.2.layers.0",
    }
    assert len(shifts) == 2 * 4 + 3


def test_every_parameter_gets_a_gradient():
    network = small_network(deep_supervision=True)
    sum(x.square().mean() for x in network(torch.randn(1, 2, 32, 64, 64))).backward()
    without = [key for key, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert without == []
    assert [key for key, p in network.named_parameters() if not p.grad.any()] == []


def test_training_and_evaluation_give_the_same_answer_each_time():
    network, image = small_network(), torch.randn(2, 2, 16, 32, 64)
    with torch.no_grad():
        once, again, evaluated = network.train()(image), network(image), network.eval()(image)
    assert torch.equal(once, again) and torch.equal(once, evaluated)
    other = small_network().state_dict()
    assert all(torch.equal(value, other[key]) for key, value in network.state_dict().items())


def test_images_of_a_batch_do_not_see_each_other():
    network, images = small_network().eval(), torch.randn(3, 2, 16, 64, 32)
    with torch.no_grad():
        together, alone = network(images), torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_a_few_steps_learn_one_image():
    network = small_network(deep_supervision=True)
    image = torch.randn(1, 2, 16, 32, 32)
    target = (image[:, 0] > 0).long()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for _ in range(15):
        loss = torch.nn.functional.cross_entropy(network(image)[0], target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_unused_heads_are_not_computed():
    network, called = small_network(), []
    for number, head in enumerate(network.decoder.seg_layers):
        head.register_forward_hook(lambda *_, number=number: called.append(number))
    image = torch.zeros(1, 2, 16, 32, 32)
    assert network(image).shape == (1, 3, 16, 32, 32)
    assert called == [2]
    network.decoder.deep_supervision = True
    assert len(network(image)) == 3


def test_features_are_the_logits_at_full_resolution():
    network, image = small_network(deep_supervision=True).eval(), torch.randn(1, 2, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(network.head(network.forward_features(image)), network(image)[0])


def test_the_body_goes_under_another_head():
    source, target = small_network(), NNFormer(2, 7, **SMALL)
    body = {key: value for key, value in source.state_dict().items() if not key.startswith(NNFormer.head_keys)}
    missing, unexpected = target.load_state_dict(body, strict=False)
    assert unexpected == [] and all(key.startswith(NNFormer.head_keys) for key in missing)
    image = torch.randn(1, 2, 16, 32, 64)
    with torch.no_grad():
        theirs, ours = (network.decoder(network.encoder(image)) for network in (source, target))
    assert all(torch.equal(a, b) for a, b in zip(theirs, ours, strict=True))


def test_an_image_that_the_stages_do_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"\(16, 32, 48\).*not divisible.*\(16, 32, 32\)"):
        small_network()(torch.zeros(1, 2, 16, 32, 48))


@pytest.mark.parametrize(
    "wrong",
    [{"width": 190}, {"width": 15, "heads": 3}, {"token_size": (2, 3, 4)}, {"window_sizes": (4, 4)}, {"depth": 0}],
)
def test_arguments_that_no_nnformer_can_have_are_refused(wrong):
    with pytest.raises(ValueError, match=r"width|token|window sizes|1 or more"):
        NNFormer(**{"input_channels": 1, "num_classes": 2, **wrong})
