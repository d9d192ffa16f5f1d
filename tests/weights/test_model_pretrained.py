"""Weights to start a training: all kinds of sources, and files with unknown preprocessing."""

import json
import pickle
from dataclasses import replace

import pytest
import torch

from stunet.errors import UserError
from stunet.labels.ontology import LABELS
from stunet.networks.stunet import PUBLISHED_STRIDES
from stunet.weights.checkpoint import to_official_names
from stunet.weights.model import load_model, read_pretrained
from stunet.weights.model_file import save_model
from stunet.weights.published import PUBLISHED_PLAN
from tests.weights import samples


def assert_weights_of(network, state_dict):
    assert state_dict.keys() == network.state_dict().keys()
    assert all(torch.equal(state_dict[key], value) for key, value in network.state_dict().items())


def test_a_name_of_the_catalogue():
    state_dict, card = read_pretrained("hippocampus")
    assert card.labels == ("background", "Anterior", "Posterior")
    assert_weights_of(load_model("hippocampus").networks[0], {key: value.float() for key, value in state_dict.items()})


def test_our_own_file(tmp_path):
    network = samples.network()
    save_model(tmp_path / "m.safetensors", network.state_dict(), samples.card())
    state_dict, card = read_pretrained(tmp_path / "m.safetensors")
    assert_weights_of(network, state_dict)
    assert card == samples.card(preprocessing=card.preprocessing) and card.preprocessing


def test_our_own_file_with_a_card_that_makes_no_sense(tmp_path):
    path = tmp_path / "m.safetensors"
    for preprocessing, sentence in (
        (None, "does not contain the preprocessing of images"),
        (
            replace(PUBLISHED_PLAN, normalization=PUBLISHED_PLAN.normalization * 2),
            "normalisation and its network have different channels",
        ),
    ):
        save_model(path, samples.network().state_dict(), replace(samples.card(), preprocessing=preprocessing))
        with pytest.raises(UserError, match=sentence):
            read_pretrained(path)


def test_a_published_model(tmp_path):
    network = samples.network("small", 1, 105)
    state_dict, card = read_pretrained(samples.write_v1(tmp_path / "small_ep4k.model", network.state_dict()))
    assert_weights_of(network, state_dict)
    assert (card.labels, card.channels) == (LABELS, ("CT",))
    assert (card.network.arguments["strides"], card.preprocessing.spacing) == (PUBLISHED_STRIDES, (1.5, 1.5, 1.5))


def test_a_checkpoint_that_says_nothing_of_its_training(tmp_path):
    """Prediction needs the preprocessing; starting a training only needs the weights."""
    network = samples.network(num_classes=10)
    path = samples.write_v1(tmp_path / "abdomen.model", network.state_dict())
    with pytest.raises(UserError, match="--strides"):
        load_model(path)
    state_dict, card = read_pretrained(path)
    assert_weights_of(network, state_dict)
    assert card.preprocessing is None and card.labels[:2] == ("background", "class_1")


def test_the_plans_beside_a_checkpoint_are_read(tmp_path):
    path = samples.write_v1(tmp_path / "mine.model", samples.network().state_dict())
    (tmp_path / "mine.model.pkl").write_bytes(pickle.dumps(samples.v1_plans(), 2))
    card = read_pretrained(path)[1]
    assert card.preprocessing.spacing == (1.5, 1.5, 1.5) and card.network.arguments["strides"] == PUBLISHED_STRIDES


@pytest.mark.parametrize("prefix", ["", "module.", "module._orig_mod."])
def test_a_v2_checkpoint_with_official_names_and_wrappers(tmp_path, prefix):
    """A checkpoint of the official code for nnU-Net v2, with the prefixes of DDP and torch.compile."""
    network = samples.network()
    named = {prefix + key: value for key, value in to_official_names(network.state_dict()).items()}
    torch.save(samples.v2_content(named, samples.v2_plans("PlainConvUNet")), tmp_path / "checkpoint_final.pth")
    state_dict, card = read_pretrained(tmp_path / "checkpoint_final.pth")
    assert_weights_of(network, state_dict)
    assert card.labels == ("background", "Anterior", "Posterior")


def test_of_a_model_folder_the_first_fold_that_is_trained(tmp_path):
    network = samples.network()
    (tmp_path / "plans.json").write_text(json.dumps(samples.v2_plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(samples.V2_DATASET))
    for fold, factor in ((1, 1.0), (3, 2.0)):
        (tmp_path / f"fold_{fold}").mkdir()
        weights = {key: value * factor for key, value in network.state_dict().items()}
        torch.save(samples.v2_content(weights, samples.v2_plans()), tmp_path / f"fold_{fold}" / "checkpoint_final.pth")
    assert_weights_of(network, read_pretrained(tmp_path)[0])


def test_what_is_no_model(tmp_path):
    with pytest.raises(UserError, match=r"no model 'bse'. Did you mean 'base'\? Known names: hippocampus"):
        read_pretrained("bse")
