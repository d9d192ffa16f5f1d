"""Transfer: loaded, replicated, kept and new weights, compared with plain indexing and the networks' outputs."""

import json
from dataclasses import asdict, replace

import pytest
import torch
from torch import nn

from stunet.errors import UserError
from stunet.labels.ontology import LABELS
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import ISOTROPIC_STRIDES, PUBLISHED_STRIDES, STUNet
from stunet.plans.preprocessing import ChannelNormalization
from stunet.weights.published import PUBLISHED_PLAN
from stunet.weights.transfer import (
    Task,
    TransferOptions,
    keep_head_rows,
    replace_head,
    replicate_input_channels,
    rows_of_same_name,
    transfer,
)
from tests.weights.samples import card, network

CT = ChannelNormalization("ct", mean=50.0, std=100.0)
ZSCORE = PUBLISHED_PLAN.normalization[0]


def task(labels=("background", "liver", "tumour"), channels=("CT",), **preprocessing):
    plan = replace(PUBLISHED_PLAN, **{"normalization": (ZSCORE,) * len(channels), **preprocessing})
    return Task(tuple(labels), tuple(channels), plan)


def target(task, strides=PUBLISHED_STRIDES, size="tiny", **options):
    """A new network for a task, with other weights than `samples.network`."""
    torch.manual_seed(99)
    spec = network_spec(size, len(task.channels), len(task.labels), strides=strides, **options)
    return build(spec).apply(STUNet.initialize).eval()


def card_of_two():
    """The card of a source trained on CT and PET."""
    plan = replace(PUBLISHED_PLAN, normalization=(ZSCORE, ZSCORE))
    return card(input_channels=2, channels=("CT", "PET"), preprocessing=plan)


def is_head(key):
    return "seg_layers" in key


def test_body_loaded_and_head_as_the_network_initialises_it():
    source, wanted = network("tiny", 1, 105), task()
    new = target(wanted)
    report = transfer(
        source.state_dict(), card(105, labels=LABELS, channels=("CT",)), new, wanted, TransferOptions(seed=5)
    )
    torch.manual_seed(5)
    expected_heads = nn.ModuleList([nn.Conv3d(f, 3, 1) for f in (128, 64, 32, 16, 8)])
    torch.manual_seed(5)
    expected_heads.apply(STUNet.initialize)
    theirs, ours = source.state_dict(), new.state_dict()
    for key in ours:
        expected = expected_heads.state_dict()[key.partition("seg_layers.")[2]] if is_head(key) else theirs[key]
        assert torch.equal(ours[key], expected), key
    assert set(report.loaded) == {key for key in ours if not is_head(key)}
    assert set(report.reinitialised) == set(report.left_over) == {key for key in ours if is_head(key)}
    assert report.replicated == () and report.rows_kept == ()
    assert report.rows_new == ("background", "liver", "tumour")
    assert report.parameters == sum(p.numel() for p in new.parameters())
    assert report.parameters - report.parameters_kept == sum(p.numel() for p in new.decoder.seg_layers.parameters())


def test_the_head_depends_on_the_seed_alone():
    new = target(task())
    torch.manual_seed(1)
    first = replace_head({}, new, seed=3)
    after = torch.rand(1)
    torch.manual_seed(1)
    assert torch.equal(torch.rand(1), after), "the caller's random numbers are left alone"
    again, other = replace_head({}, new, seed=3), replace_head({}, new, seed=4)
    assert set(first) == {key for key in new.state_dict() if is_head(key)}
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["decoder.seg_layers.4.weight"], other["decoder.seg_layers.4.weight"])


def features(model, image):
    with torch.inference_mode():
        return model.forward_features(image)


@pytest.mark.parametrize("divide", [True, False])
def test_replicated_channels(divide):
    """If divided, equal channels give the source's features; if not, channels that sum to the source's do."""
    source, wanted = network("tiny", 1, 3), task(channels=("T1", "T2", "T3"))
    new = target(wanted)
    report = transfer(source.state_dict(), card(), new, wanted, TransferOptions(divide_channels=divide))
    image = torch.randn(1, 1, 32, 32, 64, generator=torch.Generator().manual_seed(0))
    weights = torch.ones(3) if divide else torch.tensor([0.2, 0.3, 0.5])
    channels = image * weights.view(1, 3, 1, 1, 1)
    torch.testing.assert_close(features(new, channels), features(source, image), rtol=1e-3, atol=1e-4)
    assert set(report.replicated) == {
        "encoder.stages.0.0.conv1.weight",
        "encoder.stages.0.0.shortcut.weight",
    }
    assert report.channels == (("T1", "channel_0"), ("T2", "channel_0"), ("T3", "channel_0"))


def test_channels_of_the_same_name_find_each_other():
    """PET and CT in another order, and a channel that the source does not have."""
    source = network("tiny", 2, 3)
    wanted = task(channels=("PET", "ct", "T1"))
    new = target(wanted)
    report = transfer(source.state_dict(), card_of_two(), new, wanted)
    theirs, ours = (model.state_dict()["encoder.stages.0.0.conv1.weight"] for model in (source, new))
    for index, channel in enumerate((1, 0, 0)):
        assert torch.equal(ours[:, index], theirs[:, channel])
    assert report.channels == (("PET", "PET"), ("ct", "CT"), ("T1", "CT"))


def test_fewer_channels_than_the_source():
    source = network("tiny", 2, 3)
    wanted = task(channels=("PET",))
    report = transfer(source.state_dict(), card_of_two(), target(wanted), wanted)
    assert report.channels == (("PET", "PET"),) and len(report.replicated) == 2
    assert "Weights of the source for CT are not used." in report.remarks


def test_shares_are_counted_for_each_channel():
    stem = {"a": torch.arange(4.0).view(2, 2, 1, 1, 1)}
    divided = replicate_input_channels(stem, ["a"], [0, 0, 1], divide=True)["a"]
    assert divided[:, :, 0, 0, 0].tolist() == [[0.0, 0.0, 1.0], [1.0, 1.0, 3.0]]


def test_thirteen_of_104_classes_start_with_their_rows():
    """AbdomenAtlas-like names in another order: all heads, and the outputs for these classes."""
    names = ("background", *reversed(LABELS[1:14]))
    source, wanted = network("tiny", 1, 105), task(labels=names)
    new = target(wanted)
    source_card = card(105, labels=LABELS, channels=("CT",))
    report = transfer(source.state_dict(), source_card, new, wanted, TransferOptions(keep_head=True))
    image = torch.randn(1, 1, 32, 32, 64, generator=torch.Generator().manual_seed(0))
    rows = [LABELS.index(name) for name in names]
    source.decoder.deep_supervision = new.decoder.deep_supervision = True
    with torch.inference_mode():
        for ours, theirs in zip(new(image), source(image), strict=True):
            torch.testing.assert_close(ours, theirs[:, rows])
    assert report.rows_kept == names and report.rows_new == ()
    assert report.reinitialised == () and report.left_over == ()
    assert report.parameters_kept == report.parameters


def test_some_rows_kept_and_the_others_new():
    wanted = task(labels=("background", "tumour", "Kidney-Left"))
    source, new = network("tiny", 1, 105), target(wanted)
    report = transfer(
        source.state_dict(), card(105, labels=LABELS, channels=("CT",)), new, wanted, TransferOptions(keep_head=True)
    )
    fresh = replace_head({}, new, seed=0)
    for key in fresh:
        theirs, ours = source.state_dict()[key], new.state_dict()[key]
        assert torch.equal(ours[[0, 2]], theirs[[0, LABELS.index("kidney_left")]])
        assert torch.equal(ours[1], fresh[key][1])
    assert (report.rows_kept, report.rows_new) == (("background", "Kidney-Left"), ("tumour",))
    assert len(report.reinitialised) == 10
    rows = 2 * sum(features + 1 for features in (128, 64, 32, 16, 8))
    assert report.parameters_kept == sum(p.numel() for n, p in new.named_parameters() if not is_head(n)) + rows


def test_rows_of_same_name_knows_background_whatever_it_is_called():
    assert rows_of_same_name(("background", "a"), ("Hintergrund", "b")) == {0: 0}
    assert keep_head_rows({"x": torch.zeros(2)}, {}, ("head",), {0: 0}).keys() == {"x"}


def test_no_class_in_common_is_said():
    wanted = task(labels=("background", "anterior", "posterior"))
    source_card = card(105, labels=LABELS, channels=("CT",))
    with pytest.raises(UserError, match=r"No class has the same name .* adrenal_gland_left.*anterior, posterior"):
        transfer(
            network("tiny", 1, 105).state_dict(), source_card, target(wanted), wanted, TransferOptions(keep_head=True)
        )


def test_regions_have_no_rows_to_keep_but_can_be_learnt():
    regions = Task((), ("CT",), PUBLISHED_PLAN)
    new = target(task())
    assert transfer(network().state_dict(), card(), new, regions).rows_new == ()
    with pytest.raises(UserError, match="regions"):
        transfer(network().state_dict(), card(), new, regions, TransferOptions(keep_head=True))


@pytest.mark.parametrize(
    ("size", "sentence"),
    [
        (
            "small",
            r"'sample' are for size tiny \(width 8, depth 1\), but this network is small \(width 16, depth 1\)",
        )
    ],
)
def test_another_size_is_refused_with_both_sizes_named(size, sentence):
    with pytest.raises(UserError, match=sentence):
        transfer(network().state_dict(), card(), target(task(), size=size), task())


def test_a_size_without_a_name_is_refused_by_its_numbers():
    wanted = task()
    other = build(network_spec("tiny", 1, 3, depth=2))
    with pytest.raises(UserError, match=r"this network is width 8, depth 2: widths and depths must match"):
        transfer(network().state_dict(), card(), other, wanted)


def test_a_network_for_another_task_is_a_slip():
    with pytest.raises(ValueError, match="2 channels and 3 classes, and the network was built for 1 and 3"):
        transfer(network().state_dict(), card(), target(task()), task(channels=("CT", "PET")))


def test_other_strides_are_loaded_and_reported():
    new = target(task(), strides=ISOTROPIC_STRIDES)
    report = transfer(network().state_dict(), card(), new, task())
    assert (report.source_strides, report.strides) == (PUBLISHED_STRIDES, ISOTROPIC_STRIDES)
    assert any("Strides differ" in remark for remark in report.remarks)
    assert len(report.loaded) == len(new.state_dict()) - 10
    assert dict(report.rows())["strides of source"].endswith("2x2x2 1x1x2")


def test_remarks_on_spacing_axes_and_normalisation():
    wanted = task(channels=("CT",), normalization=(CT,), spacing=(3.0, 0.75, 0.75), transpose_forward=(1, 0, 2))
    said = " ".join(transfer(network().state_dict(), card(), target(wanted), wanted).remarks)
    assert "1.5 x 1.5 x 1.5 mm, this task has 3 x 0.75 x 0.75 mm" in said
    assert "CT: the source saw the z-score of each scan, this task gives values clipped" in said
    assert "in the order [0, 1, 2], this task in [1, 0, 2]" in said
    plan = replace(PUBLISHED_PLAN, normalization=(replace(CT, mean=12.0),))
    same = task(normalization=(CT,))
    said = transfer(network().state_dict(), card(preprocessing=plan), target(same), same).remarks
    assert said == ("CT: the source was scaled by mean 12 and deviation 100, this task by 50 and 100.",)


def test_nothing_to_remark():
    assert transfer(network().state_dict(), card(), target(task()), task()).remarks == ()


def test_a_source_that_says_little():
    report = transfer(network().state_dict(), card(preprocessing=None), target(task()), task())
    assert report.source_strides is None
    assert "does not contain the strides and preprocessing" in report.remarks[0]
    assert dict(report.rows())["strides of source"] == "unknown"


def test_what_the_network_has_otherwise_starts_anew():
    """Transposed up-convolutions have other tensors than the source's 1x1x1 convolutions."""
    wanted = task()
    new = target(wanted, upsampling="transposed")
    before = {key: value.clone() for key, value in new.state_dict().items()}
    report = transfer(network().state_dict(), card(), new, wanted)
    key = "decoder.upsamples.4.conv.weight"
    assert key in report.reinitialised and key in report.left_over and key not in report.loaded
    assert torch.equal(new.state_dict()[key], before[key])
    assert "The source's up-sampling is 'nearest', this network's is 'transposed'." in report.remarks


def test_the_source_is_left_as_it_was_and_half_precision_becomes_float32():
    source = {key: value.half() for key, value in network().state_dict().items()}
    before = {key: value.clone() for key, value in source.items()}
    wanted = task(channels=("a", "b"))
    new = target(wanted)
    transfer(source, card(), new, wanted, TransferOptions(divide_channels=True))
    assert all(torch.equal(source[key], before[key]) for key in source)
    assert all(p.dtype == torch.float32 for p in new.parameters())
    key = "encoder.stages.3.0.conv2.weight"
    assert torch.equal(new.state_dict()[key], source[key].float())


def test_the_report_is_json_and_rows():
    report = transfer(network().state_dict(), card(), target(task()), task())
    stored = json.loads(json.dumps(asdict(report)))
    assert stored["source"] == "sample" and stored["parameters"] == report.parameters
    rows = dict(report.rows())
    assert rows["source"] == "sample (tiny)"
    assert rows["re-initialised"] == (
        "decoder.seg_layers.0.weight, decoder.seg_layers.0.bias, decoder.seg_layers.1.weight and 7 more"
    )
    assert rows["head rows new"] == "background, liver, tumour"
