import json
import pickle
from pathlib import Path

import pytest
import torch

from stunet.errors import UserError
from stunet.networks.registry import build, network_spec
from stunet.networks.stunet import PUBLISHED_STRIDES
from stunet.weights.catalogue import CATALOGUE
from stunet.weights.model import load_model
from stunet.weights.model_file import save_model
from stunet.weights.published import PUBLISHED_PLAN
from stunet.weights.read_card import read_card
from tests.inference.samples import STRIDES, WINDOW, card, plan, tiny_network
from tests.weights import samples


def weights_of(model, index=0):
    return model.networks[index].state_dict()


def assert_same_weights(ours, theirs):
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def v2_plans(**changes):
    resampling = {"order": 1, "order_z": 0, "is_seg": False, "force_separate_z": None}
    plans = samples.v2_plans(patch_size=list(WINDOW), resampling_fn_probabilities_kwargs=resampling, **changes)
    plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"]["strides"] = [list(s) for s in STRIDES]
    return plans


def write_folder(folder: Path, networks) -> Path:
    folder.mkdir()
    (folder / "plans.json").write_text(json.dumps(v2_plans()))
    (folder / "dataset.json").write_text(json.dumps(samples.V2_DATASET))
    for fold, network in enumerate(networks):
        (folder / f"fold_{fold}").mkdir()
        content = samples.v2_content(network.state_dict(), v2_plans())
        torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
    return folder


def test_our_own_file(tmp_path):
    network = tiny_network()
    save_model(tmp_path / "m.safetensors", network.state_dict(), card(network, plan()))
    model = load_model(tmp_path / "m.safetensors")
    assert_same_weights(weights_of(model), network.state_dict())
    assert model.plan == plan()
    assert model.names[11] == "class_11"
    assert not model.networks[0].training


def test_a_model_folder_with_folds(tmp_path):
    networks = [tiny_network(3, 1, seed) for seed in range(3)]
    folder = write_folder(tmp_path / "trained", networks)
    model = load_model(folder)
    assert len(model.networks) == 3
    assert model.plan.patch_size == WINDOW
    assert model.names == {0: "background", 1: "Anterior", 2: "Posterior"}
    one = load_model(str(folder), folds=(2,))
    assert len(one.networks) == 1
    assert_same_weights(weights_of(one), networks[2].state_dict())


def test_a_v2_checkpoint(tmp_path):
    network = tiny_network(3)
    torch.save(samples.v2_content(network.state_dict(), v2_plans()), tmp_path / "checkpoint_final.pth")
    model = load_model(tmp_path / "checkpoint_final.pth")
    assert_same_weights(weights_of(model), network.state_dict())
    assert model.networks[0].strides == STRIDES
    assert model.card.channels == ("MRI",)


def test_a_published_checkpoint(tmp_path):
    torch.manual_seed(0)
    network = build(network_spec("small", 1, 105, strides=PUBLISHED_STRIDES))
    model = load_model(samples.write_v1(tmp_path / "small_ep4k.model", network.state_dict()))
    assert_same_weights(weights_of(model), network.state_dict())
    assert model.plan == PUBLISHED_PLAN
    assert model.networks[0].strides == PUBLISHED_STRIDES


def test_a_v1_checkpoint_beside_its_plans(tmp_path):
    network = samples.network(num_classes=3)
    path = samples.write_v1(tmp_path / "model_final_checkpoint.model", network.state_dict())
    with pytest.raises(UserError, match="strides"):
        load_model(path)
    (tmp_path / "model_final_checkpoint.model.pkl").write_bytes(pickle.dumps({"plans": samples.v1_plans()}))
    model = load_model(path)
    assert model.plan.convention == "nnunet_v1"
    assert model.networks[0].strides == PUBLISHED_STRIDES


def test_names_that_are_neither_file_nor_model(tmp_path):
    with pytest.raises(UserError, match=", ".join(CATALOGUE)):
        load_model("livr")
    (tmp_path / "scan.nii.gz").write_bytes(b"x")
    with pytest.raises(UserError, match="is not a model"):
        load_model(tmp_path / "scan.nii.gz")
    with pytest.raises(UserError, match=r"plans\.json"):
        load_model(tmp_path)


def test_folds_of_a_file(tmp_path):
    with pytest.raises(UserError, match="no folds"):
        load_model(tmp_path / "m.safetensors", folds=(0,))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"patch_size": (7, 16, 16)}, "not divisible"),
        ({"logits_order": 3}, "order 3"),
        ({"normalization": plan().normalization * 2}, r"2 channel\(s\)"),
    ],
)
def test_cards_that_contradict_their_network(tmp_path, changes, sentence):
    network = tiny_network()
    save_model(tmp_path / "m.safetensors", network.state_dict(), card(network, plan(**changes)))
    with pytest.raises(UserError, match=sentence):
        load_model(tmp_path / "m.safetensors")


def test_a_card_without_preprocessing(tmp_path):
    network = samples.network()
    broken = samples.card(preprocessing=None)
    save_model(tmp_path / "m.safetensors", network.state_dict(), broken)
    with pytest.raises(UserError, match="does not contain the preprocessing of images"):
        load_model(tmp_path / "m.safetensors")


def test_weights_have_a_digest_whatever_their_file_is(tmp_path):
    digests = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        network = tiny_network(num_classes=3, seed=seed)
        save_model(tmp_path / f"{name}.safetensors", network.state_dict(), card(network, plan()))
        digests.append(load_model(tmp_path / f"{name}.safetensors").weights_sha256)
    assert digests[0] == digests[1] != digests[2]


def test_a_card_is_read_without_its_network(tmp_path):
    network = tiny_network(num_classes=3, input_channels=1)
    save_model(tmp_path / "m.safetensors", network.state_dict(), card(network, plan()))
    assert read_card(tmp_path / "m.safetensors") == load_model(tmp_path / "m.safetensors").card
    with pytest.raises(UserError, match="nowhere"):
        read_card("nowhere")
