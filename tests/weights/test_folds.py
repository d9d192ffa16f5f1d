"""Model folders of nnU-Net v2 are read; missing or unsupported parts are reported."""

import pytest
import torch

from stunet.errors import UserError
from stunet.networks.registry import size_of
from stunet.networks.stunet import PUBLISHED_STRIDES
from stunet.weights.checkpoint import to_official_names
from stunet.weights.folds import read_folds
from stunet.weights.import_model import import_checkpoints
from stunet.weights.model_file import build_network_from, separated
from tests.weights.samples import V2_DATASET, network, v2_content, v2_plans, write_folder

PLAIN = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def import_folder(path):
    return import_checkpoints(read_folds(path))


def test_all_trained_folds_are_read(tmp_path):
    state_dict, card = import_folder(write_folder(tmp_path / "model"))
    assert card.training == {
        "folds": ["0", "1"],
        "checkpoints": ["checkpoint_final.pth"] * 2,
        "trainer": "STUNetTrainer_small",
        "epochs": 7,
    }
    assert (card.name, card.members) == ("Dataset004_Hippocampus", 2)
    assert card.labels == ("background", "Anterior", "Posterior")
    assert card.channels == ("MRI",)
    assert card.mirror_axes == (0, 1, 2)
    assert size_of(card.network) == "tiny"
    assert card.preprocessing.spacing == (1.5, 1.5, 1.5)
    rebuilt = build_network_from(card, separated(state_dict, 2)[1])
    assert torch.equal(rebuilt.head.weight, network().head.weight)


@pytest.mark.parametrize(("asked", "folds"), [([1], ("1",)), (["0", 1, 0], ("0", "1")), (["all"], ("all",))])
def test_folds_can_be_chosen(tmp_path, asked, folds):
    folder = write_folder(tmp_path / "model", folds=("0", "1", "all"))
    assert tuple(checkpoint.fold for checkpoint in read_folds(folder, asked)) == folds
    assert [checkpoint.fold for checkpoint in read_folds(folder)] == ["0", "1"]


def test_an_unfinished_fold_is_left_out_unless_asked_for_and_that_is_said(tmp_path, caplog):
    folder = write_folder(tmp_path / "model", folds=("0", "1", "2"))
    (folder / "fold_1" / "checkpoint_final.pth").rename(folder / "fold_1" / "checkpoint_best.pth")
    assert [checkpoint.fold for checkpoint in read_folds(folder)] == ["0", "2"]
    assert "Fold 1 of" in caplog.text
    assert "left out" in caplog.text
    caplog.clear()
    card = import_checkpoints(read_folds(folder, [0, 1]))[1]
    assert card.training["checkpoints"] == ["checkpoint_final.pth", "checkpoint_best.pth"]
    assert "checkpoint_best.pth is used" in caplog.text


def test_folds_none_of_which_is_finished_must_be_chosen(tmp_path):
    folder = write_folder(tmp_path / "model", checkpoint="checkpoint_best.pth")
    with pytest.raises(UserError, match=r"no finished fold: 0, 1 has only checkpoint_best.pth.* -f 0"):
        read_folds(folder)
    assert read_folds(folder, [0])[0].path.name == "checkpoint_best.pth"


def test_absent_folds_are_named(tmp_path):
    folder = write_folder(tmp_path / "model")
    (folder / "fold_2").mkdir()
    with pytest.raises(UserError, match=r"no trained fold 2, 7; it has 0, 1"):
        read_folds(folder, [0, 2, 7])
    with pytest.raises(UserError, match="it has 0, 1"):
        read_folds(folder, [])


def test_official_trainers_replace_the_network_of_the_plans(tmp_path):
    """The official STUNetTrainer_* build an STU-Net although the plans name PlainConvUNet, and pad its strides."""
    plans = v2_plans(architecture={"network_class_name": PLAIN, "arch_kwargs": {"strides": [[1, 1, 1], [1, 2, 2]]}})
    state_dict = to_official_names(network().state_dict())
    folder = write_folder(tmp_path / "model", plans, state_dict=state_dict, trainer="STUNetTrainer_small_ft", folds="0")
    state_dict, card = import_folder(folder)
    assert card.network.arguments["strides"] == ((1, 1, 1), (1, 2, 2), *[(1, 1, 1)] * 4)
    assert set(state_dict) == set(network().state_dict())


def test_other_networks_are_named(tmp_path):
    plans = v2_plans(PLAIN)
    folder = write_folder(tmp_path / "model", plans, trainer="nnUNetTrainer")
    with pytest.raises(UserError, match=rf"trained by nnUNetTrainer with the network {PLAIN}"):
        import_folder(folder)


def test_weights_that_do_not_fit_are_shown_in_a_table(tmp_path):
    state_dict = network().state_dict()
    state_dict["decoder.seg_layers.4.weight"] = torch.zeros(7, 8, 1, 1, 1)
    folder = write_folder(tmp_path / "model", state_dict=state_dict)
    with pytest.raises(UserError, match=r"decoder.seg_layers.4.weight +3 x 8 x 1 x 1 x 1 +7 x 8"):
        import_folder(folder)


def test_folds_of_different_networks_are_refused(tmp_path):
    folder = write_folder(tmp_path / "model", folds=("0",))
    (folder / "fold_1").mkdir()
    other = network(num_classes=4).state_dict()
    torch.save(v2_content(other, v2_plans()), folder / "fold_1" / "checkpoint_final.pth")
    with pytest.raises(UserError, match=r"fold_1\S* and \S*fold_0\S* contain different networks"):
        import_folder(folder)


@pytest.mark.parametrize("missing", ["plans.json", "dataset.json"])
def test_missing_files_are_named(tmp_path, missing):
    folder = write_folder(tmp_path / "model")
    (folder / missing).unlink()
    with pytest.raises(UserError, match=f"{missing} is missing"):
        import_folder(folder)


def test_no_folder_and_no_folds(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        import_folder(tmp_path / "absent")
    with pytest.raises(UserError, match="no trained fold"):
        import_folder(write_folder(tmp_path / "model", folds=()))


@pytest.mark.parametrize("text", ["", "{", "[1]", "3", "[" * 100_000, '{"a": 1}'])
def test_damaged_plans_are_refused(tmp_path, text):
    folder = write_folder(tmp_path / "model")
    (folder / "plans.json").write_text(text)
    with pytest.raises(UserError, match=r"plans\.json"):
        import_folder(folder)


@pytest.mark.parametrize(
    ("dataset", "reason"),
    [
        ({**V2_DATASET, "labels": {"background": 0, "whole": [1, 2], "core": [2]}}, "regions"),
        (
            {**V2_DATASET, "labels": {"background": 0, "a": 1}},
            r"for 3 labels, but its plans or dataset\.json name 2",
        ),
        (
            {**V2_DATASET, "channel_names": {"0": "CT", "1": "PET"}},
            r"for 1 channels, but its plans or dataset\.json name 2",
        ),
    ],
)
def test_datasets_that_do_not_fit_are_refused(tmp_path, dataset, reason):
    with pytest.raises(UserError, match=reason):
        import_folder(write_folder(tmp_path / "model", dataset=dataset))


@pytest.mark.parametrize(("configuration", "reason"), [("2d", "2D"), ("3d_cascade_fullres", "cascade")])
def test_2d_and_cascades_are_refused(tmp_path, configuration, reason):
    folder = write_folder(tmp_path / "model", configuration=configuration)
    with pytest.raises(UserError, match=reason):
        import_folder(folder)


def test_strides_come_from_the_plans(tmp_path):
    assert import_folder(write_folder(tmp_path / "model"))[1].network.arguments["strides"] == PUBLISHED_STRIDES
