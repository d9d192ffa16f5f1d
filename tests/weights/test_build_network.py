"""Networks for your own training loop start with a model's weights, except the head."""

import logging

import pytest
import torch

from stunet.errors import UnknownNameError, UserError
from stunet.weights.build_network import build_network
from stunet.weights.model_file import read_model, save_model
from tests.weights.samples import card, network


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "sample.safetensors"
    save_model(path, network().state_dict(), card())
    return path


def differing(built, state_dict):
    own = built.state_dict()
    return {
        key for key in own if key not in state_dict or not torch.equal(own[key], state_dict[key].to(own[key].dtype))
    }


def heads(built):
    return {key for key in built.state_dict() if key.startswith("decoder.seg_layers.")}


@pytest.mark.parametrize("as_text", [False, True])
def test_the_head_is_new_and_all_else_the_models(model_file, as_text):
    built = build_network("tiny", num_classes=5, pretrained=str(model_file) if as_text else model_file)
    assert differing(built, read_model(model_file)[0]) == heads(built)
    report = built.transfer_report
    assert report.source == "sample" and set(report.reinitialised) == heads(built)
    assert report.rows_kept == () and len(report.rows_new) == 5
    logits = built(torch.randn(1, 1, 64, 64, 64))
    assert logits.shape == (1, 5, 64, 64, 64) and built.training
    logits.mean().backward()
    assert all(p.grad is not None for name, p in built.named_parameters() if "seg_layers" not in name)


def test_the_same_number_of_classes_gets_a_new_head_too(model_file):
    built = build_network("tiny", num_classes=3, pretrained=model_file)
    weights = {key for key in heads(built) if key.endswith("weight")}
    assert weights <= differing(built, read_model(model_file)[0])


def test_the_head_stays_without_a_number_of_classes(model_file):
    built = build_network("tiny", pretrained=model_file)
    assert not differing(built, read_model(model_file)[0])
    assert built.transfer_report.rows_kept == ("background", "class_1", "class_2")


def test_more_channels_share_the_models_weights(model_file):
    built, source = build_network("tiny", 2, 3, pretrained=model_file), read_model(model_file)[0]
    for key in built.stem_keys:
        for channel in range(2):
            assert torch.equal(built.state_dict()[key][:, channel], source[key][:, 0])
    assert built.transfer_report.channels == (("channel 0", "channel_0"), ("channel 1", "channel_0"))


def test_the_new_head_follows_torchs_seed(model_file):
    built = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        built.append(build_network("tiny", num_classes=3, pretrained=model_file).head.weight)
    assert torch.equal(built[0], built[1]) and not torch.equal(built[0], built[2])


def test_strides_are_the_models_unless_named():
    model = build_network("tiny", num_classes=3, pretrained="hippocampus")
    assert model.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1))
    other = build_network("tiny", num_classes=3, pretrained="hippocampus", strides=[(1, 1, 1), *[(2, 2, 2)] * 5])
    assert other.strides[4] == (2, 2, 2) and other.transfer_report.strides == other.strides


def test_true_is_the_catalogues_model_of_the_size():
    built = build_network("tiny", num_classes=2, pretrained=True, deep_supervision=True)
    assert built.transfer_report.source == "hippocampus"
    assert len(built(torch.zeros(1, 1, 16, 16, 16))) == 5


def test_random_weights_have_no_report():
    built = build_network("tiny", num_classes=2)
    assert built.transfer_report is None and built.input_channels == 1


def test_the_report_is_logged(model_file, caplog):
    with caplog.at_level(logging.INFO, "stunet"):
        build_network("tiny", num_classes=2, pretrained=model_file)
    assert "source: sample (tiny)" in caplog.messages


@pytest.mark.parametrize(
    ("name", "arguments", "kind", "sentence"),
    [
        ("hugee", {"num_classes": 2}, UnknownNameError, "no network 'hugee'.*'huge'"),
        ("tiny", {}, UserError, "num_classes"),
        ("tiny", {"num_classes": 0}, UserError, "must be 1 or more"),
        ("tiny", {"num_classes": 2, "input_channels": 0, "pretrained": True}, UserError, "must be 1 or more"),
        ("tiny", {"num_classes": 2, "widht": 3}, UserError, "widht"),
        ("small", {"num_classes": 2, "pretrained": "hippocampus"}, UserError, "size tiny.*this network is small"),
        ("base_d2", {"num_classes": 2, "pretrained": True}, UserError, "no weights for network 'base_d2'"),
        ("nnformer_tiny", {"num_classes": 2, "pretrained": "hippocampus"}, UserError, "for STU-Nets"),
        ("tiny", {"num_classes": 2, "pretrained": "hippocampos"}, UnknownNameError, "Did you mean 'hippocampus'"),
    ],
)
def test_what_cannot_be_built(name, arguments, kind, sentence):
    with pytest.raises(kind, match=sentence):
        build_network(name, **arguments)
