"""Official checkpoints: names, sizes, plans; and hostile or broken files, which must do nothing but be refused."""

import io
import os
import pickle
import re
import tarfile
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.labels.ontology import LABELS
from stunet.networks.stunet import PUBLISHED_STRIDES, SIZES, build_stunet, config_of_size
from stunet.weights.model_file import build_network_from
from stunet.weights.official import (
    PUBLISHED_PLAN,
    import_official,
    read_checkpoint,
    to_official_names,
    to_our_names,
)
from tests.weights.samples import (
    PUBLISHED_POOLING,
    V2_DATASET,
    network,
    v1_content,
    v1_plans,
    v2_content,
    v2_plans,
    write_v1,
)

MARKER = "STUNET_PICKLE_EXECUTED.marker"


class Hostile:
    """Runs `open(MARKER, "w")` when it is unpickled."""

    def __reduce__(self):
        return open, (MARKER, "w")


@pytest.fixture(autouse=True)
def nothing_is_run(tmp_path, monkeypatch):
    """Each test runs in an empty folder, where hostile files would leave a marker."""
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert not (folder / MARKER).exists()


# Names


@pytest.mark.parametrize("size", ["small", "base", "large", "huge"])
def test_no_key_is_lost_on_the_way_to_official_names_and_back(size):
    with torch.device("meta"):
        ours = build_stunet(config_of_size(size, 1, 105)).state_dict()
    official = to_official_names(ours)
    blocks = SIZES[size].depth
    assert len(official) == len(ours) == 11 * (8 * blocks + 2) + 5 * 2 + 5 * 2
    prefixes = r"conv_blocks_context|upsample_layers|conv_blocks_localization|seg_outputs"
    assert all(re.fullmatch(rf"({prefixes})\.\d.*\.(weight|bias)", key) for key in official)
    back = to_our_names(official)
    assert list(back) == list(ours)
    assert all(back[key] is ours[key] for key in ours)


def test_shortcut_and_heads_have_the_official_names():
    official = to_official_names(network().state_dict())
    assert official["conv_blocks_context.0.0.conv3.weight"].shape == (8, 1, 1, 1, 1)
    assert official["conv_blocks_localization.4.0.conv3.weight"].shape == (8, 16, 1, 1, 1)
    assert official["seg_outputs.4.weight"].shape == (3, 8, 1, 1, 1)
    assert official["upsample_layers.0.conv.weight"].shape == (128, 128, 1, 1, 1)


def test_wrappers_are_taken_off():
    assert list(to_our_names({"_orig_mod.module.seg_outputs.0.bias": 1})) == ["decoder.seg_layers.0.bias"]


def test_foreign_names_stay():
    foreign = {"seg_outputs.0.0.bias": 1, "conv_blocks_context.0.0.conv4.bias": 2, "bias": 3}
    assert to_our_names(foreign) == foreign


# Reading


@pytest.mark.parametrize("use_zip", [True, False])
def test_a_v1_checkpoint_gives_the_same_answers(tmp_path, use_zip):
    original = network()
    path = write_v1(tmp_path / "tiny.model", original.state_dict(), _use_new_zipfile_serialization=use_zip)
    state_dict, card = import_official(path, plans=v1_plans(), preprocessing=PUBLISHED_PLAN)
    rebuilt = build_network_from(card, state_dict)
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(rebuilt(image), original(image))
    assert card.training == {"file": "tiny.model", "epochs": 4000}


def test_modules_of_numpy_1_are_known(tmp_path):
    """The published files were written under numpy 1, whose pickles name numpy.core."""
    path = tmp_path / "old.model"
    torch.save(v1_content(network().state_dict()), tmp_path / "new.model")
    with zipfile.ZipFile(tmp_path / "new.model") as new, zipfile.ZipFile(path, "w") as old:
        for entry in new.infolist():
            content = new.read(entry)
            if entry.filename.endswith("data.pkl"):
                assert b"numpy._core.multiarray" in content or b"numpy.core.multiarray" in content
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            old.writestr(entry.filename, content)
    assert read_checkpoint(path).epoch == 4000


def test_zip_checkpoints_are_memory_mapped(tmp_path):
    path = write_v1(tmp_path / "tiny.model", network().state_dict())
    state_dict = read_checkpoint(path).state_dict
    maps = "/proc/self/maps"
    if not os.path.exists(maps):
        pytest.skip("Linux only")
    with open(maps) as file:
        assert str(path) in file.read()
    assert state_dict


def test_a_v2_checkpoint_brings_its_own_plans(tmp_path):
    original = network()
    torch.save(v2_content(original.state_dict(), v2_plans()), tmp_path / "checkpoint_final.pth")
    checkpoint = read_checkpoint(tmp_path / "checkpoint_final.pth")
    assert (checkpoint.trainer, checkpoint.configuration, checkpoint.epoch) == ("STUNetTrainer_small", "3d_fullres", 7)
    state_dict, card = import_official(checkpoint, preprocessing={"spacing": [1, 1, 1]})
    assert card.labels == ("background", "Anterior", "Posterior")
    assert card.channels == ("MRI",)
    assert card.architecture.strides == PUBLISHED_STRIDES
    assert set(state_dict) == set(original.state_dict())


def test_a_trainer_without_mirroring_allows_none(tmp_path):
    content = {**v2_content(network().state_dict(), v2_plans()), "inference_allowed_mirroring_axes": None}
    torch.save(content, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").mirror_axes == ()


def test_a_checkpoint_of_another_trainer_and_network_is_refused(tmp_path):
    plain = v2_plans("dynamic_network_architectures.architectures.unet.PlainConvUNet")
    torch.save(v2_content(network().state_dict(), plain, "nnUNetTrainer"), tmp_path / "x.pth")
    with pytest.raises(UserError, match=r"trained by nnUNetTrainer with the network \S+PlainConvUNet"):
        import_official(tmp_path / "x.pth", preprocessing={})
    torch.save(v2_content(network().state_dict(), plain, "STUNetTrainer_small_ft"), tmp_path / "y.pth")
    _, card = import_official(tmp_path / "y.pth", preprocessing={})
    assert card.architecture.strides == PUBLISHED_STRIDES


def test_a_checkpoint_that_nnunet_wrote_is_read(tmp_path):
    """What nnU-Net's own `save_checkpoint` writes, called on an object that has just the attributes that it reads."""
    trainer_module = pytest.importorskip("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    logger_module = pytest.importorskip("nnunetv2.training.logging.nnunet_logger")
    trainer = object.__new__(trainer_module.nnUNetTrainer)
    trainer.local_rank, trainer.disable_checkpointing, trainer.is_ddp = 0, False, False
    trainer.network = network().train()
    trainer.optimizer = torch.optim.SGD(trainer.network.parameters(), 0.01, momentum=0.99, nesterov=True)
    trainer.network(torch.randn(1, 1, 32, 32, 32)).sum().backward()
    trainer.optimizer.step()
    trainer.grad_scaler = torch.amp.GradScaler("cpu")
    trainer.logger = logger_module.MetaLogger(str(tmp_path), resume=False)
    trainer.current_epoch = 0
    for key in ("mean_fg_dice", "val_losses", "train_losses", "lrs", "epoch_start_timestamps", "epoch_end_timestamps"):
        trainer.logger.log(key, np.mean(np.array([0.5, 0.25], np.float32)), 0)
    trainer.logger.log("dice_per_class_or_region", [np.float64(0.5), np.float64(0.6)], 0)
    trainer._best_ema = trainer.logger.get_value("ema_fg_dice", step=-1)
    trainer.my_init_kwargs = v2_content({}, v2_plans())["init_args"]
    trainer.inference_allowed_mirroring_axes = (0, 1, 2)
    trainer.save_checkpoint(str(tmp_path / "checkpoint_final.pth"))
    checkpoint = read_checkpoint(tmp_path / "checkpoint_final.pth")
    assert set(checkpoint.state_dict) == set(network().state_dict())
    assert checkpoint.epoch == 1
    assert checkpoint.dataset == V2_DATASET


# Recognising


def published(**changes):
    """The state dict of a published `small`, as views of one zero, so that it costs nothing."""
    config = replace(config_of_size("small", 1, 105, strides=PUBLISHED_STRIDES), **changes)
    with torch.device("meta"):
        state_dict = build_stunet(config).state_dict()
    return {key: torch.zeros(tensor.shape, dtype=torch.float16) for key, tensor in state_dict.items()}


def test_published_weights_are_recognised(tmp_path):
    path = write_v1(tmp_path / "small_ep4k.model", published())
    state_dict, card = import_official(path)
    assert card.name == "small_ep4k"
    assert card.architecture.size == "small"
    assert card.architecture.strides == PUBLISHED_STRIDES
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
        import_official(path)


def test_given_strides_are_taken(tmp_path):
    path = write_v1(tmp_path / "mine.model", published(width=24))
    _, card = import_official(path, strides=[(2, 2, 2)] * 3 + [(1, 2, 2)] * 2)
    assert card.architecture.strides == ((1, 1, 1), *[(2, 2, 2)] * 3, *[(1, 2, 2)] * 2)
    assert card.preprocessing == PUBLISHED_PLAN


def test_given_strides_override_those_of_the_published_plan(tmp_path):
    path = write_v1(tmp_path / "small.model", published())
    _, card = import_official(path, strides=[(2, 2, 2)] * 5)
    assert card.architecture.strides[5] == (2, 2, 2)


def test_preprocessing_is_not_guessed_either(tmp_path):
    path = write_v1(tmp_path / "mine.model", published(num_classes=10))
    with pytest.raises(UserError, match=r"prepared.*--plans"):
        import_official(path, strides=[(2, 2, 2)] * 5)
    with pytest.raises(ValueError, match="preprocessing"):
        import_official(path, plans=v1_plans())


def test_plans_decide_where_they_are_given(tmp_path):
    path = write_v1(tmp_path / "abdomen.v2.model", published(num_classes=10))
    plans = v1_plans([[2, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]], num_classes=9)
    _, card = import_official(path, plans=plans, preprocessing={"spacing": [1, 1, 1]}, name="abdomen")
    assert card.architecture.strides == ((1, 1, 1), *[(2, 2, 2)] * 3, (1, 2, 2), (1, 1, 1))
    assert card.labels == ("background", *(f"class_{i}" for i in range(1, 10)))
    assert (card.name, card.licence, card.preprocessing) == ("abdomen", "unknown", {"spacing": [1, 1, 1]})


def test_labels_override(tmp_path):
    path = write_v1(tmp_path / "mine.model", network().state_dict())
    options = {"plans": v1_plans(), "preprocessing": PUBLISHED_PLAN}
    _, card = import_official(path, labels=["background", "liver", "spleen"], **options)
    assert card.labels == ("background", "liver", "spleen")
    with pytest.raises(UserError, match="3 classes, background included, but 2 labels"):
        import_official(path, labels=["background", "liver"], **options)


def test_channels_must_be_as_many_as_the_plans_name(tmp_path):
    path = write_v1(tmp_path / "mine.model", network(input_channels=2).state_dict())
    with pytest.raises(UserError, match="takes 2 input channels, but the plans name 1: CT"):
        import_official(path, plans=v1_plans(), preprocessing=PUBLISHED_PLAN)


@pytest.mark.parametrize("strides", [[], [(2, 2)] * 5, ["a"], [(0, 1, 1)] * 5, 3])
def test_impossible_strides_are_refused(tmp_path, strides):
    path = write_v1(tmp_path / "mine.model", network().state_dict())
    with pytest.raises(UserError, match="Strides are"):
        import_official(path, strides=strides, preprocessing=PUBLISHED_PLAN)


# Refusing


def test_wrong_shapes_are_reported_as_a_table(shared_data):
    with pytest.raises(UserError) as refusal:
        import_official(shared_data / "bad_inputs" / "wrong_shapes.model")
    lines = str(refusal.value).splitlines()
    assert "wrong_shapes.model is not an STU-Net of size tiny" in lines[0]
    assert lines[1].split() == ["tensor", "expected", "found"]
    assert re.fullmatch(r"conv_blocks_context.1.0.conv1.weight +16 x 8 x 3 x 3 x 3 +5 x 7 x 3 x 3 x 3", lines[2])
    assert lines[-1] == "... and 115 more"


def test_tensors_that_do_not_belong_are_named(tmp_path):
    state_dict = {**network().state_dict(), "ema_model.weight": torch.zeros(2)}
    path = write_v1(tmp_path / "mine.model", state_dict)
    with pytest.raises(UserError, match=r"ema_model.weight +nothing +2"):
        import_official(path, plans=v1_plans())


def test_another_network_is_named_by_its_tensors(tmp_path):
    torch.save({"state_dict": torch.nn.Linear(2, 3).state_dict()}, tmp_path / "linear.model")
    with pytest.raises(UserError, match="not an STU-Net: its first tensors are weight, bias"):
        import_official(tmp_path / "linear.model")


def test_nothing_in_a_hostile_file_is_run(shared_data, tmp_path):
    with pytest.raises(UserError, match=r"exec_plain.model.pkl wants to run io.open"):
        read_checkpoint(shared_data / "bad_inputs" / "exec_plain.model.pkl")
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save({"state_dict": network().state_dict(), "extra": Hostile()}, tmp_path / "x.model", **options)
        with pytest.raises(UserError, match=r"x.model wants to run \S*open .* nothing was run"):
            read_checkpoint(tmp_path / "x.model")


@pytest.mark.parametrize("function", [os.system, eval, __import__, torch.load, torch.hub.load, np.load, np.save])
def test_other_functions_are_refused_by_name(tmp_path, function):
    class Wants:
        def __reduce__(self):
            return function, (f"touch {MARKER}",)

    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Wants()}, tmp_path / "x.model")
    with pytest.raises(UserError, match=rf"wants to run [\w.]*{function.__name__} "):
        read_checkpoint(tmp_path / "x.model")


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(network(), tmp_path / "x.model")
    with pytest.raises(UserError, match=r"wants to run stunet.networks.stunet.STUNet"):
        read_checkpoint(tmp_path / "x.model")


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.99])
@pytest.mark.parametrize("use_zip", [True, False])
def test_truncated_checkpoints_are_refused(tmp_path, share, use_zip):
    path = write_v1(tmp_path / "x.model", network().state_dict(), _use_new_zipfile_serialization=use_zip)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match="damaged"):
        read_checkpoint(path)


def test_files_of_other_kinds_are_refused(tmp_path, shared_data):
    (tmp_path / "text.model").write_text("not a model\n" * 1000)
    (tmp_path / "empty.model").touch()
    (tmp_path / "random.model").write_bytes(bytes(range(256)) * 50)
    (tmp_path / "pickle.model").write_bytes(pickle.dumps({"a": 1}))
    with tarfile.open(tmp_path / "tar.model", "w") as tar:
        tar.addfile(tarfile.TarInfo("storages"), io.BytesIO())
    for name in ("text", "empty", "random", "pickle", "tar"):
        with pytest.raises(UserError, match=name + r"\.model"):
            read_checkpoint(tmp_path / f"{name}.model")
    for path, reason in (
        (tmp_path, "is a folder"),
        (tmp_path / "absent.model", "There is no file"),
        (shared_data / "bad_inputs" / "zip_path_traversal.zip", "is a zip archive"),
    ):
        with pytest.raises(UserError, match=reason):
            read_checkpoint(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds no checkpoint, but a list"),
        ({"state_dict": None}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"state_dict": {"a": 1, "b": torch.zeros(2)}}, "holds no weights"),
        ({"epoch": 3}, "holds no weights"),
        ({"state_dict": {"a": torch.zeros(2, dtype=torch.int64)}}, "a holds no real numbers"),
        ({"state_dict": {"a": torch.zeros(1).expand(10**12)}}, "claims more weights than fit"),
        ({"state_dict": {"a": torch.zeros(3, 3).to_sparse()}}, "a holds no real numbers"),
        ({"state_dict": {"a": torch.zeros(1), "module.a": torch.zeros(1)}}, "some tensors twice"),
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": "many"}, "training cannot be read"),
        ({"network_weights": {"a": torch.zeros(1)}, "inference_allowed_mirroring_axes": (7,)}, "mirror axes"),
    ],
)
def test_checkpoints_without_plain_weights_are_refused(tmp_path, content, reason):
    torch.save(content, tmp_path / "x.model")
    with pytest.raises(UserError, match=reason):
        read_checkpoint(tmp_path / "x.model")


def test_the_published_plan_is_what_imaging_writes():
    plan = pytest.importorskip("stunet.imaging.plan").PreprocessingPlan
    assert plan.from_dict(PUBLISHED_PLAN).to_dict() == PUBLISHED_PLAN
    from_plans = plan.from_nnunet_v1(v1_plans(PUBLISHED_POOLING)).to_dict()
    assert {**from_plans, "orientation": "RAS"} == PUBLISHED_PLAN
