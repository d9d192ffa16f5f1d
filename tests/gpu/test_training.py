"""Steps, augmentation, resuming and one rank of each strategy on the device, against the CPU."""

import json
from pathlib import Path

import pytest
import torch

pytest.importorskip("nnunetv2")

from stunet.folders import nnunet_folders
from stunet.training.augmentation.pipeline import DeviceAugmentation
from stunet.training.checkpoint_folder import load_optimizer_tensors, optimizer_tensors
from stunet.training.optimizer import make_optimizer
from stunet.training.parallel import Process, distribute
from stunet.training.recipes import RECIPES
from stunet.training.run import build_trainer, train
from stunet.training.settings import HardwareSettings, ScheduleSettings, TaskSettings, TrainingSettings
from tests.inference.samples import tiny_network
from tests.training.options import changed
from tests.training.ranks import run_ranks


def settings(device: torch.device, **options: object) -> TrainingSettings:
    base = TrainingSettings(
        TaskSettings("7", size="tiny"),
        schedule=ScheduleSettings(epochs=3, iterations_per_epoch=4),
        hardware=HardwareSettings(str(device), workers=0, compile="off"),
    )
    return changed(base, picture_every=0, save_every=1, **options)


def first_loss(device: torch.device, precision: str) -> float:
    """Of the first step, on crops as they are read."""
    torch.manual_seed(0)
    trainer = build_trainer(settings(device, precision=precision, augmentation="nnunet"), nnunet_folders())
    trainer.on_train_epoch_start()
    batches, _ = trainer.get_dataloaders()
    return trainer.train_step(next(batches))["loss"]


@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-3), ("bfloat16", 3e-2)])
def test_the_loss_of_a_step(device, home, tmp_path, monkeypatch, precision, tolerance):
    expected = first_loss(torch.device("cpu"), "float32")
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "other"))
    assert first_loss(device, precision) == pytest.approx(expected, abs=tolerance)


def test_a_training_learns_and_resumes(device, home, monkeypatch, tmp_path):
    """The weights of a run that was stopped and resumed are those of an uninterrupted one, to the device's rounding."""
    result = train(settings(device, precision="float32"))
    fold = result.model_folder / "fold_0"
    losses = [line["loss"] for line in map(json.loads, (fold / "stunet_log.jsonl").open()) if "step" in line]
    assert losses[-1] < losses[0]
    monkeypatch.setenv("nnUNet_results", str(tmp_path / "resumed"))
    torch.manual_seed(0)
    stopped = build_trainer(settings(device, precision="float32"), nnunet_folders())
    stopped.on_train_start()
    stopped.run_epoch()
    resumed = train(settings(device, precision="float32", resume=True)).model_folder / "fold_0"
    whole, parts = weights(fold), weights(resumed)
    for name, tensor in whole.items():
        torch.testing.assert_close(parts[name], tensor, rtol=0, atol=1e-2 if device.type == "cuda" else 0)


def weights(fold: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(fold / "stunet_checkpoint" / "weights.safetensors")


def test_adamw_resumes(device):
    """Its count of steps has to lie where the fused update looks for it."""
    recipe = RECIPES["unetr"]

    def step(network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        network(torch.ones(1, 1, 16, 32, 32, device=device)).square().mean().backward()
        optimizer.step()

    networks = [tiny_network(3).to(device) for _ in range(2)]
    first, second = (make_optimizer(network, recipe, fused=device.type == "cuda") for network in networks)
    step(networks[0], first)
    kept = {name: tensor.cpu() for name, tensor in optimizer_tensors(first, networks[0]).items()}
    networks[1].load_state_dict(networks[0].state_dict())
    load_optimizer_tensors(second, networks[1], kept)
    step(networks[0], first)
    step(networks[1], second)
    for ours, theirs in zip(networks[1].parameters(), networks[0].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_augmentation_is_the_same_on_every_device(device):
    augment = DeviceAugmentation((16, 16, 16), (-0.5, 0.5), None, (0, 1, 2), False)
    image, labels = torch.randn(2, 1, 24, 24, 24), torch.randint(0, 3, (2, 1, 24, 24, 24)).to(torch.int16)
    expected, expected_labels = augment(image, labels, [1, 2])
    found, found_labels = augment(image.to(device), labels.to(device), [1, 2])
    assert found.device.type == device.type and found.shape == (2, 1, 16, 16, 16)
    assert (found_labels.cpu() == expected_labels).float().mean() > 0.99
    again, _ = augment(image.to(device), labels.to(device), [1, 2])
    torch.testing.assert_close(again, found)
    assert torch.isfinite(found).all() and abs(found.std().item() - expected.std().item()) < 0.2


def loss_of_one_rank(process: Process, strategy: str) -> float:
    """Of a network that is distributed over one rank, after one update."""
    torch.manual_seed(0)
    network = distribute(tiny_network(3).to(process.device), process, strategy)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    image = torch.ones(1, 1, 16, 32, 32, device=process.device)
    for _ in range(2):
        optimizer.zero_grad()
        loss = network(image).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_rank(device, strategy):
    alone = loss_of_one_rank_alone()
    (found,) = run_ranks(1, loss_of_one_rank, strategy, device=device.type)
    assert found == pytest.approx(alone, rel=1e-3)


def loss_of_one_rank_alone() -> float:
    torch.manual_seed(0)
    network = tiny_network(3)
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    for _ in range(2):
        optimizer.zero_grad()
        loss = network(torch.ones(1, 1, 16, 32, 32)).square().mean()
        loss.backward()
        optimizer.step()
    return loss.item()
