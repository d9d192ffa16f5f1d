"""nnU-Net's checkpoints are read; malicious or damaged files are refused without side effects."""

import io
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from torch.torch_version import TorchVersion

from stunet.errors import UserError
from stunet.weights.checkpoint import read_checkpoint
from tests.weights.samples import V2_DATASET, network, v1_content, v2_content, v2_plans, write_v1

MARKER = "STUNET_PICKLE_EXECUTED.marker"


class Hostile:
    """Runs `open(MARKER, "w")` when it is unpickled."""

    def __reduce__(self):
        return open, (MARKER, "w")


@pytest.fixture(autouse=True)
def nothing_is_run(tmp_path, monkeypatch):
    """Each test runs in an empty folder, where malicious files would leave a marker."""
    folder = tmp_path / "working"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield
    assert not (folder / MARKER).exists()


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


@pytest.mark.parametrize(("version", "is_safe"), [("2.9.1+cpu", False), ("2.10.0", True), ("2.13.0+cpu", True)])
def test_an_unsafe_torch_reads_no_checkpoint(tmp_path, monkeypatch, version, is_safe):
    path = write_v1(tmp_path / "tiny.model", network().state_dict())
    monkeypatch.setattr(torch, "__version__", TorchVersion(version))
    if is_safe:
        assert read_checkpoint(path).state_dict
        return
    with pytest.raises(UserError, match=r"torch 2.9.1\+cpu is not safe .*CVE-2026-24747.*Install torch 2.10 or newer"):
        read_checkpoint(path)


def test_zip_checkpoints_are_memory_mapped(tmp_path):
    path = write_v1(tmp_path / "tiny.model", network().state_dict())
    state_dict = read_checkpoint(path).state_dict
    maps = "/proc/self/maps"
    if not os.path.exists(maps):
        pytest.skip("Linux only")
    with open(maps) as file:
        assert str(path) in file.read()
    assert state_dict


def test_a_trainer_without_mirroring_allows_none(tmp_path):
    content = {**v2_content(network().state_dict(), v2_plans()), "inference_allowed_mirroring_axes": None}
    torch.save(content, tmp_path / "x.pth")
    assert read_checkpoint(tmp_path / "x.pth").mirror_axes == ()


def test_a_checkpoint_that_nnunet_wrote_is_read(tmp_path):
    """A checkpoint from nnU-Net's own `save_checkpoint`, called on an object with only the attributes that it reads."""
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


# Refusing


def test_nothing_in_a_hostile_file_is_run(shared_data, tmp_path):
    with pytest.raises(UserError, match=r"exec_plain.model.pkl would run io.open"):
        read_checkpoint(shared_data / "bad_inputs" / "exec_plain.model.pkl")
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        torch.save({"state_dict": network().state_dict(), "extra": Hostile()}, tmp_path / "x.model", **options)
        with pytest.raises(UserError, match=r"x.model would run \S*open .* nothing was run"):
            read_checkpoint(tmp_path / "x.model")


@pytest.mark.parametrize("function", [os.system, eval, __import__, torch.load, torch.hub.load, np.load, np.save])
def test_other_functions_are_refused_by_name(tmp_path, function):
    class Wants:
        def __reduce__(self):
            return function, (f"touch {MARKER}",)

    torch.save({"state_dict": {"a": torch.zeros(1)}, "extra": Wants()}, tmp_path / "x.model")
    with pytest.raises(UserError, match=rf"would run [\w.]*{function.__name__} "):
        read_checkpoint(tmp_path / "x.model")


def test_a_whole_pickled_network_is_refused(tmp_path):
    torch.save(network(), tmp_path / "x.model")
    with pytest.raises(UserError, match=r"would run stunet.networks.stunet.STUNet"):
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
        ([1, 2], "contains a list, not a checkpoint"),
        ({"state_dict": None}, "contains no weights"),
        ({"state_dict": {}}, "contains no weights"),
        ({"state_dict": {"a": 1, "b": torch.zeros(2)}}, "contains no weights"),
        ({"epoch": 3}, "contains no weights"),
        ({"state_dict": {"a": torch.zeros(2, dtype=torch.int64)}}, "a does not contain real numbers"),
        ({"state_dict": {"a": torch.zeros(1).expand(10**12)}}, "claims more weights than its size allows"),
        ({"state_dict": {"a": torch.zeros(3, 3).to_sparse()}}, "a does not contain real numbers"),
        ({"state_dict": {"a": torch.zeros(1), "module.a": torch.zeros(1)}}, "some tensors twice"),
        ({"state_dict": {"a": torch.zeros(1)}, "epoch": "many"}, "training metadata cannot be read"),
        ({"network_weights": {"a": torch.zeros(1)}, "inference_allowed_mirroring_axes": (7,)}, "mirror axes"),
    ],
)
def test_checkpoints_without_plain_weights_are_refused(tmp_path, content, reason):
    torch.save(content, tmp_path / "x.model")
    with pytest.raises(UserError, match=reason):
        read_checkpoint(tmp_path / "x.model")


def test_tensors_that_share_storage_count_once(tmp_path):
    """nnU-Net's own network names each tensor of its encoder up to four times."""
    tensor = torch.randn(1000)
    names = ("encoder.a", "decoder.encoder.a", "encoder.all.a", "decoder.encoder.all.a")
    torch.save({"network_weights": dict.fromkeys(names, tensor)}, tmp_path / "x.pth")
    assert torch.equal(read_checkpoint(tmp_path / "x.pth").state_dict["decoder.encoder.a"], tensor)
