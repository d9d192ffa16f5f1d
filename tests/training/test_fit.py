"""What fits, and what is said where something does not."""

import re
from dataclasses import replace

import psutil
import torch

from stunet.networks.registry import network_spec
from stunet.training.fit import (
    device_bytes,
    fewest_ranks,
    fits,
    largest_batch,
    largest_cube,
    needed_bytes,
    suggest_fit,
)
from stunet.training.memory_walk import TrainingStep

STEP = TrainingStep(network_spec("base", 1, 3), (128, 128, 128), 2)
AVAILABLE = 12_000_000_000


def test_the_largest_batch_fits_and_one_more_does_not():
    images = largest_batch(STEP, AVAILABLE)
    assert fits(replace(STEP, batch_size=images), AVAILABLE)
    assert not fits(replace(STEP, batch_size=images + 1), AVAILABLE)
    assert largest_batch(STEP, 10**9) == 0


def test_the_largest_patch_fits_and_a_larger_one_does_not():
    cube = largest_cube(STEP, AVAILABLE)
    assert fits(replace(STEP, patch=cube), AVAILABLE)
    assert not fits(replace(STEP, patch=tuple(edge + 32 for edge in cube)), AVAILABLE)
    assert largest_cube(STEP, 10**9) is None


def test_the_fewest_ranks_fit_and_one_less_does_not():
    step = TrainingStep(network_spec("large", 1, 3), (64, 64, 64), 1, checkpointed=True)
    available = 4_000_000_000
    ranks = fewest_ranks(step, available)
    assert ranks is not None and ranks > 1
    assert fits(replace(step, ranks=ranks), available)
    assert not fits(replace(step, ranks=ranks - 1), available)
    assert fewest_ranks(step, 10**9) is None
    assert fewest_ranks(step, 10**11) == 1


def gigabytes(sentences: str) -> list[float]:
    """What changes need, as it is printed in brackets."""
    return [float(number) for number in re.findall(r"\(([\d.]+) GB\)", sentences)]


def test_changes_that_cost_time_alone_come_first():
    said = suggest_fit(STEP, 6_000_000_000)
    assert said.startswith(f"This step needs about {needed_bytes(STEP) / 1e9:.1f} GB; there are 6.0 GB. What fits: ")
    assert "--accumulate 2 (" in said and "--checkpoint-activations (" in said and "--patch" not in said
    assert all(number <= 6 for number in gigabytes(said))


def test_both_where_neither_suffices():
    both = needed_bytes(replace(STEP, accumulate=2, checkpointed=True))
    said = suggest_fit(STEP, both + 1)
    assert "What fits: --accumulate 2 --checkpoint-activations (" in said
    assert len(gigabytes(said)) == 1


def test_a_smaller_patch_or_network_is_the_last_resort():
    said = suggest_fit(STEP, 2_000_000_000)
    assert "--patch " in said and "--size " in said
    assert all(number <= 2 for number in gigabytes(said))
    patch = tuple(int(n) for n in re.search(r"--patch (\d+) (\d+) (\d+)", said).groups())
    assert fits(replace(STEP, patch=patch, accumulate=2, checkpointed=True), 2_000_000_000)


def test_nothing_fits():
    assert suggest_fit(STEP, 10**8).endswith("No smaller patch or network fits.")


def test_a_step_that_should_have_fitted():
    said = suggest_fit(STEP, 10**12)
    assert "Other programs use the rest." in said
    assert gigabytes(said) and all(number < needed_bytes(STEP) / 1e9 for number in gigabytes(said))


def test_what_was_tried_is_not_proposed_again():
    assert "--accumulate" not in suggest_fit(replace(STEP, accumulate=2), 6_000_000_000)
    assert "--checkpoint-activations" not in suggest_fit(replace(STEP, checkpointed=True), 5_000_000_000)


def test_the_memory_of_this_machine():
    assert device_bytes(torch.device("cpu")) == psutil.virtual_memory().total


def test_a_system_that_does_not_say_how_much_memory_there_is(monkeypatch):
    """As Windows."""
    monkeypatch.delattr("os.sysconf")
    assert device_bytes(torch.device("cpu")) is None
    said = suggest_fit(STEP, None)
    assert "there are" not in said and "What fits: " in said
    assert gigabytes(said) and all(number <= needed_bytes(STEP) / 1e9 for number in gigabytes(said))
