"""A checkpointed network against the plain one."""

import torch

from stunet.networks.stunet import STUNet
from stunet.training.activation_checkpointing import checkpoint_activations


def plain_and_checkpointed() -> tuple[STUNet, STUNet]:
    """Two networks with the same weights, two blocks in a stage."""
    torch.manual_seed(0)
    plain, checkpointed = (STUNet(1, 3, width=4, depth=2, deep_supervision=True) for _ in range(2))
    checkpoint_activations(checkpointed)
    checkpointed.load_state_dict(plain.state_dict())
    return plain, checkpointed


def gradients(network: STUNet, precision: torch.dtype) -> dict[str, torch.Tensor]:
    """Of the mean square of all logits."""
    image_BCZYX = torch.randn(1, 1, 64, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.autocast("cpu", precision, enabled=precision != torch.float32):
        logits = network(image_BCZYX)
    sum(x.float().square().mean() for x in logits).backward()
    return {name: parameter.grad for name, parameter in network.named_parameters()}


def test_gradients_are_the_same_to_the_bit():
    plain, checkpointed = plain_and_checkpointed()
    expected, found = gradients(plain, torch.float32), gradients(checkpointed, torch.float32)
    assert list(expected) == list(found)
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0 or "bias" in name
        assert torch.equal(gradient, found[name]), name


def test_gradients_in_bfloat16():
    """Where maps are larger than the kernel: below, oneDNN's own weight gradients differ from run to run."""
    plain, checkpointed = plain_and_checkpointed()
    expected, found = gradients(plain, torch.bfloat16), gradients(checkpointed, torch.bfloat16)
    for name, gradient in expected.items():
        if not name.startswith("encoder.stages.5."):
            assert torch.equal(gradient, found[name]), name


def test_each_block_runs_twice_in_a_training_step_and_once_otherwise():
    _, network = plain_and_checkpointed()
    runs: list[torch.nn.Module] = []
    blocks = [block for part in (network.encoder, network.decoder) for stage in part.stages for block in stage]
    for block in blocks:
        block.register_forward_pre_hook(lambda module, _: runs.append(module))
    gradients(network, torch.float32)
    assert len(blocks) == 22
    assert all(runs.count(block) == 2 for block in blocks)
    runs.clear()
    with torch.no_grad():
        network(torch.zeros(1, 1, 64, 64, 64))
    assert all(runs.count(block) == 1 for block in blocks)


def test_less_is_saved_for_the_backward_pass():
    saved = []
    for network in plain_and_checkpointed():
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor, kept: dict[int, int] = kept) -> torch.Tensor:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            logits = network(torch.zeros(1, 1, 64, 64, 64))
        saved.append(sum(kept.values()))
        del logits
    assert saved[1] < 0.6 * saved[0]
