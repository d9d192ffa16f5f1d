"""Official checkpoints are imported as weights and a card: sizes, strides, plans, labels."""

import re
from dataclasses import replace

import pytest
import torch

from stunet.errors import UserError
from stunet.labels.ontology import LABELS
from stunet.networks.registry import size_of
from stunet.networks.stunet import PUBLISHED_STRIDES, STUNet
from stunet.weights.checkpoint import read_checkpoint
from stunet.weights.import_model import import_checkpoints, import_model
from stunet.weights.model_file import build_network_from
from stunet.weights.published import PUBLISHED_PLAN
from tests.weights.samples import network, v1_plans, v2_content, v2_plans, write_v1


def with_plans(path, plans=None):
    """Import a checkpoint of nnU-Net v1 with the plans of its pickle."""
    return import_checkpoints([replace(read_checkpoint(path), plans=plans or v1_plans())])


# Importing


@pytest.mark.parametrize("use_zip", [True, False])
def test_a_v1_checkpoint_gives_the_same_answers(tmp_path, use_zip):
    original = network()
    path = write_v1(tmp_path / "tiny.model", original.state_dict(), _use_new_zipfile_serialization=use_zip)
    state_dict, card = with_plans(path)
    rebuilt = build_network_from(card, state_dict)
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(rebuilt(image), original(image))
    assert card.training == {"file": "tiny.model", "epochs": 4000}


def test_a_v2_checkpoint_brings_its_own_plans(tmp_path):
    original = network()
    torch.save(v2_content(original.state_dict(), v2_plans()), tmp_path / "checkpoint_final.pth")
    checkpoint = read_checkpoint(tmp_path / "checkpoint_final.pth")
    assert (checkpoint.trainer, checkpoint.configuration, checkpoint.epoch) == ("STUNetTrainer_small", "3d_fullres", 7)
    state_dict, card = import_checkpoints([checkpoint])
    assert card.labels == ("background", "Anterior", "Posterior")
    assert card.channels == ("MRI",)
    assert card.network.arguments["strides"] == PUBLISHED_STRIDES
    assert set(state_dict) == set(original.state_dict())


def test_a_checkpoint_of_another_trainer_and_network_is_refused(tmp_path):
    plain = v2_plans("dynamic_network_architectures.architectures.unet.PlainConvUNet")
    torch.save(v2_content(network().state_dict(), plain, "nnUNetTrainer"), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"trained by nnUNetTrainer with the network \S+PlainConvUNet"):
        import_model(tmp_path / "x.pth")
    torch.save(v2_content(network().state_dict(), plain, "STUNetTrainer_small_ft"), tmp_path / "y.pth")
    _, card = import_model(tmp_path / "y.pth")
    assert card.network.arguments["strides"] == PUBLISHED_STRIDES


# Recognising


def published(**changes):
    """The state dict of a published `small`, as views of a single zero, to save memory."""
    arguments = {"input_channels": 1, "num_classes": 105, "width": 16, "strides": PUBLISHED_STRIDES, **changes}
    with torch.device("meta"):
        state_dict = STUNet(**arguments).state_dict()
    return {key: torch.zeros(tensor.shape, dtype=torch.float16) for key, tensor in state_dict.items()}


def test_published_weights_are_recognised(tmp_path):
    path = write_v1(tmp_path / "small_ep4k.model", published())
    state_dict, card = import_model(path)
    assert card.name == "small_ep4k"
    assert size_of(card.network) == "small"
    assert card.network.arguments["strides"] == PUBLISHED_STRIDES
    assert card.preprocessing == PUBLISHED_PLAN
    assert card.labels == LABELS
    assert card.channels == ("CT",)
    assert card.mirror_axes == (0, 1, 2)
    assert card.licence == "Apache-2.0"
    assert len(state_dict) == 130


@pytest.mark.parametrize("changes", [{"num_classes": 10}, {"input_channels": 2}, {"width": 24}, {"depth": 2}])
def test_unknown_strides_are_not_guessed(tmp_path, changes):
    path = write_v1(tmp_path / "mine.model", published(**changes))
    with pytest.raises(UserError, match=r"strides.*--plans.*--strides"):
        import_model(path)


def test_given_strides_are_taken(tmp_path):
    path = write_v1(tmp_path / "mine.model", published(width=24))
    _, card = import_model(path, strides=[(2, 2, 2)] * 3 + [(1, 2, 2)] * 2)
    assert card.network.arguments["strides"] == ((1, 1, 1), *[(2, 2, 2)] * 3, *[(1, 2, 2)] * 2)
    assert card.preprocessing == PUBLISHED_PLAN


def test_given_strides_override_those_of_the_published_plan(tmp_path):
    path = write_v1(tmp_path / "small.model", published())
    _, card = import_model(path, strides=[(2, 2, 2)] * 5)
    assert card.network.arguments["strides"][5] == (2, 2, 2)


def test_preprocessing_is_not_guessed_either(tmp_path):
    path = write_v1(tmp_path / "mine.model", published(num_classes=10))
    with pytest.raises(UserError, match=r"preprocessing.*--plans"):
        import_model(path, strides=[(2, 2, 2)] * 5)


def test_plans_decide_where_they_are_given(tmp_path):
    path = write_v1(tmp_path / "abdomen.v2.model", published(num_classes=10))
    plans = v1_plans([[2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]], num_classes=9)
    _, card = with_plans(path, plans)
    assert card.network.arguments["strides"] == ((1, 1, 1), *[(2, 2, 2)] * 3, (1, 2, 2), (1, 1, 1))
    assert card.labels == ("background", *(f"class_{i}" for i in range(1, 10)))
    assert (card.name, card.licence, card.preprocessing.orientation) == ("abdomen", "unknown", None)


def test_channels_must_be_as_many_as_the_plans_name(tmp_path):
    path = write_v1(tmp_path / "mine.model", network(input_channels=2).state_dict())
    with pytest.raises(UserError, match=r"network for 2 channels, but its plans or dataset\.json name 1: CT"):
        with_plans(path)


@pytest.mark.parametrize("strides", [[], [(2, 2)] * 5, ["a"], [(0, 1, 1)] * 5, 3])
def test_impossible_strides_are_refused(tmp_path, strides):
    path = write_v1(tmp_path / "mine.model", network().state_dict())
    with pytest.raises(UserError, match="Strides are"):
        import_model(path, strides=strides)


# Refusing


def test_wrong_shapes_are_reported_as_a_table(shared_data):
    with pytest.raises(UserError) as refusal:
        import_model(shared_data / "bad_inputs" / "wrong_shapes.model")
    lines = str(refusal.value).splitlines()
    assert "wrong_shapes.model is not an STU-Net of size tiny" in lines[0]
    assert lines[1].split() == ["tensor", "expected", "found"]
    assert re.fullmatch(r"conv_blocks_context.1.0.conv1.weight +16 x 8 x 3 x 3 x 3 +5 x 7 x 3 x 3 x 3", lines[2])
    assert lines[-1] == "... and 115 more"


def test_tensors_that_do_not_belong_are_named(tmp_path):
    state_dict = {**network().state_dict(), "ema_model.weight": torch.zeros(2)}
    path = write_v1(tmp_path / "mine.model", state_dict)
    with pytest.raises(UserError, match=r"ema_model.weight +nothing +2"):
        with_plans(path)


def test_another_network_is_named_by_its_tensors(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(2, 3).state_dict()}, tmp_path / "linear.model")
    with pytest.raises(UserError, match="not an STU-Net: its first tensors are weight, bias"):
        import_model(tmp_path / "linear.model")
