"""The memory of a training step against walks of that very step, formulas, and a real one."""

from dataclasses import replace

import numpy as np
import pytest
from torch.profiler import ProfilerActivity, profile

from stunet.networks.cost import count_parameters
from stunet.networks.registry import network_spec
from stunet.training.memory import training_memory
from stunet.training.memory_walk import (
    DEEP_SUPERVISION_WEIGHTS,
    TrainingStep,
    optimizer_of,
    prepared_network,
    run_step,
    walked,
)
from tests.allocations import most_allocated

NETWORK = network_spec("tiny_d2", 1, 5)
STEP = TrainingStep(NETWORK, (64, 64, 64), batch_size=2, precision="float32")


def walked_peak(step: TrainingStep) -> int:
    """Of a walk of just this step; weights and momentum are there before."""
    walk = walked(step)
    return int(np.cumsum(walk.changes).max()) + 2 * walk.weight_bytes


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_two_small_steps_tell_about_all_others(precision, checkpointed):
    step = TrainingStep(NETWORK, (96, 64, 160), 3, precision, checkpointed)
    assert training_memory(step).peak == pytest.approx(walked_peak(step), rel=1e-4)


@pytest.mark.parametrize("accumulate", [2, 3])
def test_a_batch_in_parts(accumulate):
    step = replace(STEP, batch_size=3, accumulate=accumulate)
    in_parts, whole = training_memory(step).peak, training_memory(replace(step, accumulate=1)).peak
    assert in_parts == pytest.approx(walked_peak(step), rel=0.02)
    assert in_parts < whole


def test_weights_momentum_and_gradients_are_four_bytes_a_parameter():
    memory = training_memory(STEP)
    parameters = count_parameters(prepared_network(STEP))
    assert (memory.weights, memory.momentum) == (4 * parameters, 4 * parameters)
    assert 0 <= memory.gradients <= 4 * parameters
    assert memory.gathered == 0
    walk = walked(STEP)
    deepest_head = 5 * (8 * 16 + 1)  # has weight 0 in the loss, and no gradient
    assert walk.changes[walk.is_gradient & (walk.changes > 0)].sum() == 4 * (parameters - deepest_head)


@pytest.mark.parametrize(
    ("less", "more"),
    [
        ({"batch_size": 1}, {"batch_size": 2}),
        ({"patch": (64, 64, 64)}, {"patch": (64, 64, 96)}),
        ({"precision": "bfloat16"}, {"precision": "float32"}),
        ({"checkpointed": True}, {"checkpointed": False}),
        ({"network": NETWORK}, {"network": replace(NETWORK, num_classes=105)}),
        ({"network": NETWORK}, {"network": NETWORK.with_arguments(width=16)}),
        ({"network": NETWORK.with_arguments(depth=1)}, {"network": NETWORK}),
    ],
)
def test_what_takes_less(less, more):
    assert training_memory(replace(STEP, **less)).peak < training_memory(replace(STEP, **more)).peak


def test_many_ranks_leave_activations_and_what_is_whole_for_a_while():
    step = TrainingStep(network_spec("base", 1, 3), (64, 64, 64), 1, "bfloat16", checkpointed=True)
    peaks = [training_memory(replace(step, ranks=ranks)).peak for ranks in (1, 2, 8, 10_000)]
    assert peaks == sorted(peaks, reverse=True) and len(set(peaks)) == len(peaks)
    memory = training_memory(replace(step, ranks=10_000))
    assert memory.weights + memory.momentum + memory.gradients < 0.001 * memory.peak
    largest_stage = 4 * count_parameters(prepared_network(step).decoder.stages[0])
    assert largest_stage < memory.gathered < 4 * largest_stage


@pytest.mark.parametrize("checkpointed", [False, True])
def test_a_real_step_takes_what_was_predicted(checkpointed, tmp_path):
    """Against torch's own record of its allocations, those inside of operations included."""
    step = TrainingStep(NETWORK, (64, 64, 64), 1, "float32", checkpointed)
    network = prepared_network(step)
    optimizer = optimizer_of(network)
    run_step(network, optimizer, step)
    optimizer.zero_grad(set_to_none=True)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        run_step(network, optimizer, step)
    memory = training_memory(step)
    real = most_allocated(record, tmp_path / "trace.json")
    assert memory.peak - memory.weights - memory.momentum == pytest.approx(real, rel=0.15)


def test_the_weights_of_deep_supervision_are_the_trainers(build):
    trainer = build("STUNetTrainer_tiny", "STUNetPlans_tiny")
    trainer.initialize()
    weights = next(module.weight_factors for module in trainer.loss.modules() if hasattr(module, "weight_factors"))
    assert np.allclose(weights, np.array(DEEP_SUPERVISION_WEIGHTS) / sum(DEEP_SUPERVISION_WEIGHTS))


def test_steps_that_cannot_be():
    with pytest.raises(ValueError, match="divisible"):
        replace(STEP, patch=(64, 64, 50))
    with pytest.raises(ValueError, match="larger than"):
        replace(STEP, patch=(32, 32, 32))
    for wrong in ({"batch_size": 0}, {"ranks": 0}, {"accumulate": 3}):
        with pytest.raises(ValueError, match="1 or more"):
            replace(STEP, **wrong)
