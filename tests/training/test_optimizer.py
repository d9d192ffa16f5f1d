import pytest
import torch
from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

from stunet.networks.registry import build_network
from stunet.training.checkpoint_folder import load_optimizer_tensors, optimizer_tensors
from stunet.training.optimizer import LearningRateSchedule, make_optimizer
from stunet.training.recipes import RECIPES


def test_the_schedule_is_nnunets():
    optimizers = [torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.01) for _ in range(2)]
    ours = LearningRateSchedule(optimizers[0], RECIPES["scratch"], 1000)
    theirs = PolyLRScheduler(optimizers[1], 0.01, 1000)
    for epoch in range(1000):
        ours.step(epoch)
        theirs.step(epoch)
        assert optimizers[0].param_groups[0]["lr"] == optimizers[1].param_groups[0]["lr"]


def rates(recipe, epochs):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], recipe.learning_rate)
    schedule = LearningRateSchedule(optimizer, recipe, epochs)
    found = []
    for epoch in range(epochs):
        schedule.step(epoch)
        found.append(optimizer.param_groups[0]["lr"])
    return found


def test_a_warm_up_and_then_torchs_cosine():
    recipe = RECIPES["swin_unetr"]
    found = rates(recipe, 1000)
    assert found[:50] == pytest.approx([recipe.learning_rate * (epoch + 1) / 50 for epoch in range(50)])
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], recipe.learning_rate)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 950)
    for rate in found[50:]:
        assert rate == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9, abs=1e-15)
        optimizer.step()
        cosine.step()


def test_a_short_training_has_a_short_warm_up():
    recipe = RECIPES["unetr"]
    assert rates(recipe, 40)[:3] == pytest.approx(
        [recipe.learning_rate / 2, recipe.learning_rate, recipe.learning_rate]
    )
    assert rates(recipe, 1) == [recipe.learning_rate]


def test_what_adamw_keeps_is_given_back():
    network = build_network("unet3d_tiny", 1, 2)
    optimizer = make_optimizer(network, RECIPES["unetr"])
    assert isinstance(optimizer, torch.optim.AdamW) and optimizer.defaults["weight_decay"] == 1e-5
    network(torch.randn(2, 1, 16, 16, 32)).square().mean().backward()
    optimizer.step()
    again = make_optimizer(network, RECIPES["unetr"])
    load_optimizer_tensors(again, network, optimizer_tensors(optimizer, network))
    kept, given_back = optimizer.state_dict()["state"], again.state_dict()["state"]
    assert all(torch.equal(kept[p][key], given_back[p][key]) for p in kept for key in ("step", "exp_avg", "exp_avg_sq"))


def test_adamw_counts_steps_beside_its_parameters_where_one_kernel_updates_all():
    """On CUDA the update is fused; `step` on the CPU then ends in an error. The meta device stands for CUDA here."""
    network = build_network("unet3d_tiny", 1, 2)
    kept = {f"{name}::step": torch.tensor(3.0) for name, _ in network.named_parameters()}
    for device, fused, expected in (("cpu", True, "cpu"), ("meta", True, "meta"), ("meta", False, "cpu")):
        on_device = network.to(device)
        optimizer = make_optimizer(on_device, RECIPES["unetr"])
        optimizer.defaults["fused"] = fused
        load_optimizer_tensors(optimizer, on_device, kept)
        assert {state["step"].device.type for state in optimizer.state.values()} == {expected}


def test_a_fused_adamw_goes_on_as_if_nothing_had_happened():
    image = torch.randn(2, 1, 16, 16, 32)
    networks = [build_network("unet3d_tiny", 1, 2) for _ in range(2)]
    networks[1].load_state_dict(networks[0].state_dict())
    optimizers = [make_optimizer(network, RECIPES["unetr"], fused=True) for network in networks]

    def step(number):
        optimizers[number].zero_grad()
        networks[number](image).square().mean().backward()
        optimizers[number].step()

    step(0)
    step(1)
    optimizers[1] = make_optimizer(networks[1], RECIPES["unetr"], fused=True)
    load_optimizer_tensors(optimizers[1], networks[1], optimizer_tensors(optimizers[0], networks[0]))
    step(0)
    step(1)
    for ours, theirs in zip(networks[1].parameters(), networks[0].parameters(), strict=True):
        assert torch.equal(ours, theirs)
