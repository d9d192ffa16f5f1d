"""Synthetic checkpoints with official names are imported."""

import json
import pickle
from dataclasses import replace

import pytest
import torch

from stunet.errors import UserError
from stunet.networks.registry import build, size_of
from stunet.networks.stunet import PUBLISHED_STRIDES
from stunet.weights.import_model import import_model
from stunet.weights.model import load_model, read_pretrained
from stunet.weights.model_file import save_model
from stunet.weights.published import PUBLISHED_PLAN
from tests.weights import samples


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """A checkpoint that looks like the published `small`, with random weights."""
    path = tmp_path_factory.mktemp("published") / "small_ep4k.model"
    samples.write_v1(path, samples.network("small", 1, 105).state_dict())
    return path


def v1_pickle(folder, **changes):
    path = folder / "plans.pkl"
    path.write_bytes(pickle.dumps({**samples.v1_plans(num_classes=104), **changes}, 2))
    return path


def test_the_published_weights_need_no_plans(published, tmp_path):
    state_dict, card = import_model(published)
    save_model(tmp_path / "small.safetensors", state_dict, card)
    model = load_model(tmp_path / "small.safetensors")
    assert (size_of(card.network), card.network.arguments["strides"]) == ("small", PUBLISHED_STRIDES)
    assert model.plan == PUBLISHED_PLAN
    assert model.names[5] == card.labels[5]
    assert torch.equal(model.networks[0].head.weight, state_dict["decoder.seg_layers.4.weight"])


def test_plans_beside_the_published_weights_change_nothing_that_they_do_not_say(published, tmp_path):
    """v1's plans contain no orientation, and an arbitrary name of the modality."""
    with_plans = import_model(published, plans=v1_pickle(tmp_path, modalities={0: "noMod"}))[1]
    without = import_model(published)[1]
    assert with_plans.preprocessing.orientation == "RAS"
    assert with_plans.channels == ("CT",)
    assert with_plans.preprocessing == without.preprocessing
    assert with_plans.labels == without.labels


def test_other_weights_follow_their_plans(tmp_path):
    path = tmp_path / "mine.model"
    samples.write_v1(path, samples.network().state_dict())
    _, card = import_model(path, plans=v1_pickle(tmp_path, modalities={0: "MR"}))
    assert card.preprocessing.orientation is None
    assert card.channels == ("MR",)


def test_other_weights_without_plans(tmp_path):
    path = tmp_path / "mine.model"
    samples.write_v1(path, samples.network().state_dict())
    with pytest.raises(UserError, match=r"mine\.model .*--plans.*--strides"):
        import_model(path)
    with pytest.raises(UserError, match=r"mine\.model .*spacing.*--plans"):
        import_model(path, strides=PUBLISHED_STRIDES[1:])


def test_strides_override_the_plans(tmp_path):
    path = tmp_path / "mine.model"
    samples.write_v1(path, samples.network().state_dict())
    _, card = import_model(path, plans=v1_pickle(tmp_path), strides=[(2, 2, 2)] * 5)
    assert card.network.arguments["strides"] == ((1, 1, 1), *[(2, 2, 2)] * 5)


def test_v2_plans_as_json(tmp_path):
    path, plans = tmp_path / "checkpoint_final.pth", tmp_path / "plans.json"
    torch.save(samples.v2_content(samples.network().state_dict(), samples.v2_plans()), path)
    plans.write_text(json.dumps(samples.v2_plans(spacing=[2.0, 1.0, 1.0])))
    assert import_model(path)[1].preprocessing.spacing == (1.5, 1.5, 1.5)
    assert import_model(path, plans=plans)[1].preprocessing.spacing == (2.0, 1.0, 1.0)
    plans.write_text("{")
    with pytest.raises(UserError, match=r"plans\.json is not valid JSON"):
        import_model(path, plans=plans)


def test_a_model_folder(tmp_path):
    (tmp_path / "fold_1").mkdir()
    (tmp_path / "plans.json").write_text(json.dumps(samples.v2_plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(samples.V2_DATASET))
    network = samples.network()
    torch.save(samples.v2_content(network.state_dict(), samples.v2_plans()), tmp_path / "fold_1/checkpoint_final.pth")
    state_dict, card = import_model(tmp_path, folds=["1"])
    assert card.labels == ("background", "Anterior", "Posterior")
    assert torch.equal(state_dict["decoder.seg_layers.4.weight"], network.head.weight)
    with pytest.raises(UserError, match="no trained fold 0; it has 1"):
        import_model(tmp_path)
    for options in ({"plans": tmp_path / "plans.json"}, {"strides": PUBLISHED_STRIDES[1:]}):
        with pytest.raises(UserError, match=r"model folder, which has its own plans"):
            import_model(tmp_path, folds=["1"], **options)
    with pytest.raises(UserError, match=r"checkpoint_final\.pth has no folds to choose from"):
        import_model(tmp_path / "fold_1/checkpoint_final.pth", folds=["1"])


def test_folds_of_a_model_folder_become_one_file(tmp_path):
    """All networks are imported, and a training starts with the first."""
    networks = [samples.network(), build(samples.network().spec).eval()]
    (tmp_path / "plans.json").write_text(json.dumps(samples.v2_plans()))
    (tmp_path / "dataset.json").write_text(json.dumps(samples.V2_DATASET))
    for fold, network in enumerate(networks):
        (tmp_path / f"fold_{fold}").mkdir()
        content = samples.v2_content(network.state_dict(), samples.v2_plans())
        torch.save(content, tmp_path / f"fold_{fold}" / "checkpoint_final.pth")
    state_dict, card = import_model(tmp_path, folds=[0, "1"])
    card = replace(card, preprocessing=PUBLISHED_PLAN)
    save_model(tmp_path / "both.safetensors", state_dict, card)
    model = load_model(tmp_path / "both.safetensors")
    assert card.members == len(model.networks) == 2
    assert model.card == card
    for read, network in zip(model.networks, networks, strict=True):
        expected = network.state_dict()
        assert all(torch.equal(tensor, expected[key]) for key, tensor in read.state_dict().items())
    first, first_card = read_pretrained(tmp_path / "both.safetensors")
    assert torch.equal(first["decoder.seg_layers.4.weight"], networks[0].head.weight)
    assert first_card.members == 1
    assert import_model(tmp_path)[1].members == 1
