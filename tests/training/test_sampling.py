"""The order of the data against nnU-Net's own loader, and against itself: more workers, more ranks, another start."""

from contextlib import suppress
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from nnunetv2.training.dataloading.data_loader import nnUNetDataLoader
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from stunet.errors import UserError
from stunet.training.sampling import (
    SeededBatches,
    all_transforms,
    batches,
    is_foreground_slot,
    sample_seeds,
    seed_all,
    slots_of_rank,
)
from tests.training.options import changed

SEED = 7


@pytest.fixture
def trainer(build):
    """Ready to load, with nnU-Net's transforms alone."""
    trainer = build("STUNetTrainer_tiny", "STUNetPlans_tiny")
    trainer.follow(replace(trainer.recipe, paper_transforms=False, epochs=2, iterations_per_epoch=3))
    trainer.settings = changed(trainer.settings, seed=SEED, augmentation="nnunet")
    trainer.initialize()
    return trainer


@pytest.fixture
def stock_loader(build, monkeypatch) -> nnUNetDataLoader:
    """The training loader of nnU-Net's own trainer, on the same data and plans."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer = build("nnUNetTrainer", "STUNetPlans_tiny")
    trainer.initialize()
    loader = trainer.get_dataloaders()[0].data_loader
    for transform in all_transforms(loader.transforms):
        with suppress(AttributeError):
            transform.benchmark = False
    return loader


def assert_equal(batch, other):
    assert batch["keys"] == other["keys"] and batch["step"] == other["step"]
    assert torch.equal(batch["data"], other["data"])
    assert all(torch.equal(a, b) for a, b in zip(batch["target"], other["target"], strict=True))


def seeded_batches(loader, slots=(0, 1)):
    return SeededBatches(loader, slots, 2, 0.33, SEED, "training")


def test_with_its_seeds_a_sample_is_nnunets(trainer, stock_loader, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    ours = list(islice(trainer.get_dataloaders()[0], 3))
    forced = [stock_loader.get_do_oversample(slot) for slot in range(2)]
    stock_loader.batch_size = 1
    for step, batch in enumerate(ours):
        for slot in range(2):
            stock_loader.get_do_oversample = lambda _, slot=slot: forced[slot]
            seed_all(sample_seeds(SEED, "training", step, slot))
            theirs = next(stock_loader)
            assert batch["keys"][slot] == theirs["keys"][0]
            assert torch.equal(batch["data"][slot], theirs["data"][0])
            pairs = zip(batch["target"], theirs["target"], strict=True)
            assert all(torch.equal(mine[slot], their[0]) for mine, their in pairs)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_matter(stock_loader, workers):
    dataset = seeded_batches(stock_loader)
    for alone, together in zip(batches(dataset, range(4), 0), batches(dataset, range(4), workers), strict=True):
        assert_equal(alone, together)


def test_ranks_do_not_matter(stock_loader):
    whole = seeded_batches(stock_loader)[5]
    parts = [seeded_batches(stock_loader, slots_of_rank(2, rank, 2))[5] for rank in range(2)]
    assert [key for part in parts for key in part["keys"]] == whole["keys"]
    assert torch.equal(torch.cat([part["data"] for part in parts]), whole["data"])
    for scale, target in enumerate(whole["target"]):
        assert torch.equal(torch.cat([part["target"][scale] for part in parts]), target)


def test_a_later_start_sees_what_it_would_have_seen(trainer, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    whole = [list(stream) for stream in trainer.get_dataloaders()]
    assert [len(stream) for stream in whole] == [6, 2]
    trainer.current_epoch, trainer.epoch_losses = 1, [0.5]
    training, validation = (list(stream) for stream in trainer.get_dataloaders())
    assert [batch["step"] for batch in training] == [4, 5]
    for later, batch in zip([*training, *validation], [*whole[0][4:], *whole[1][1:]], strict=True):
        assert_equal(later, batch)


def test_all_differ(stock_loader):
    dataset = seeded_batches(stock_loader)
    images = [dataset[step]["data"][slot] for step in range(3) for slot in range(2)]
    images.append(SeededBatches(stock_loader, (0,), 2, 0.33, SEED + 1, "training")[0]["data"][0])
    images.append(SeededBatches(stock_loader, (0,), 2, 0.33, SEED, "validation")[0]["data"][0])
    assert not any(torch.equal(a, b) for n, a in enumerate(images) for b in images[:n])


def test_who_draws_meanwhile_is_not_disturbed(stock_loader):
    np.random.seed(3), torch.manual_seed(3)
    expected = np.random.rand(), torch.rand(1)
    np.random.seed(3), torch.manual_seed(3)
    seeded_batches(stock_loader)[0]
    assert (np.random.rand(), torch.rand(1)) == expected


@pytest.mark.parametrize("size", [2, 3, 5, 8])
@pytest.mark.parametrize("world", [1, 2])
def test_slots_and_foreground_are_nnunets(build, monkeypatch, size, world):
    """nnU-Net's own division over ranks, asked for without starting any."""
    import torch.distributed as dist

    found, expected = [], []
    for rank in range(world):
        stock = build("nnUNetTrainer", "STUNetPlans_tiny")
        stock.configuration_manager.configuration["batch_size"] = size
        stock.is_ddp = world > 1
        monkeypatch.setattr(dist, "get_world_size", lambda: world)
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        nnUNetTrainer._set_batch_size_and_oversample(stock)
        slots = slots_of_rank(size, rank, world)
        assert len(slots) == stock.batch_size
        found += list(slots)
        expected.append(round(stock.oversample_foreground_percent * stock.batch_size) if world > 1 else None)
        if world > 1:
            assert sum(is_foreground_slot(slot, size, 0.33) for slot in slots) == expected[-1]
    assert found == list(range(size))
    if world == 1:
        loader = nnUNetDataLoader.__new__(nnUNetDataLoader)
        loader.batch_size, loader.oversample_foreground_percent = size, 0.33
        forced = [loader._oversample_last_XX_percent(slot) for slot in range(size)]
        assert forced == [is_foreground_slot(slot, size, 0.33) for slot in range(size)]


@pytest.fixture
def on_device(trainer, monkeypatch):
    """The same trainer, whose batches are augmented where the network is."""
    monkeypatch.setenv("nnUNet_n_proc_DA", "0")
    trainer.settings = changed(trainer.settings, augmentation="device")
    return trainer


def test_a_device_gets_the_crops_as_they_were_read(on_device, stock_loader):
    batch = next(on_device.get_dataloaders()[0])
    stock_loader.transforms, stock_loader.batch_size = None, 1
    for slot in range(2):
        stock_loader.get_do_oversample = lambda _, slot=slot: slot == 1
        seed_all(sample_seeds(SEED, "training", 0, slot))
        theirs = next(stock_loader)
        assert torch.equal(batch["data"][slot], theirs["data"][0])
        assert torch.equal(batch["target"][slot], theirs["target"][0])


def test_a_device_augments_each_slot_by_its_own_seed(on_device):
    """Whatever rank it falls to, and whenever it is asked."""
    batch = next(on_device.get_dataloaders()[0])
    image, target = on_device.on_device(batch)
    assert image.shape == (2, 1, 40, 56, 40) and [len(scale) for scale in target] == [2] * 5
    second = {"data": batch["data"][1:], "target": batch["target"][1:], "step": batch["step"], "slots": (1,)}
    alone, target_alone = on_device.on_device(second)
    assert torch.equal(alone[0], image[1])
    assert all(torch.equal(a[0], b[1]) for a, b in zip(target_alone, target, strict=True))
    later, _ = on_device.on_device({**batch, "step": 1})
    assert not torch.equal(later, image)


def test_what_a_device_cannot_do(on_device):
    on_device.device = torch.device("mps")
    with pytest.raises(UserError, match=r"--augmentation device is not possible here\. .*MPS"):
        on_device.augments_on_device  # noqa: B018
    on_device.settings = changed(on_device.settings, augmentation="auto")
    assert not on_device.augments_on_device
