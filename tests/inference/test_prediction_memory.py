"""The memory of a prediction, compared with formulas and a real window."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from stunet.inference.accumulator import SlabAccumulator
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.inference.prediction_memory import largest_window, needed_bytes, prediction_memory
from stunet.networks.cost import count_parameters
from stunet.networks.registry import build, network_spec
from tests.allocations import most_allocated

CONFIG = network_spec("tiny", 1, 105)


def test_weights_are_four_bytes_a_parameter():
    with torch.device("meta"):
        parameters = count_parameters(build(CONFIG))
    assert prediction_memory(CONFIG, (64, 64, 64)).weights == 4 * parameters


def test_a_wider_scan_takes_a_wider_slab():
    narrow, wide = (prediction_memory(CONFIG, (64, 64, 64), plane=plane).windows for plane in ((64, 64), (64, 96)))
    features, sum_of_weights, image = 8, 1, 1
    assert wide - narrow == 4 * 64 * 64 * 32 * (features + sum_of_weights + image)


def test_a_real_window_takes_what_was_predicted(tmp_path):
    """Compared with torch's record of allocations, including those inside operations. In bfloat16 that record is not
    meaningful, because convolutions request memory that they never use; the benchmark measures resident memory instead.
    """
    window = (96, 96, 96)
    backend = TorchBackend([build(CONFIG).eval()], torch.device("cpu"))
    backend.run(torch.randn(1, 1, *window))
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record, torch.inference_mode():
        means = SlabAccumulator(8, window, torch.ones(window))
        image_BCZYX = torch.randn(1, 1, *window)
        means.add(backend.run(image_BCZYX.clone())[0], (0, 0, 0))
    real = most_allocated(record, tmp_path / "trace.json")
    assert prediction_memory(CONFIG, window, plane=window[1:]).windows == pytest.approx(real, rel=0.15)


def test_the_largest_window_fits_and_a_larger_one_does_not():
    available = 1_200_000_000
    edge, *_ = largest_window(CONFIG, available)
    assert needed_bytes(CONFIG, (edge,) * 3) <= available < needed_bytes(CONFIG, (edge + 32,) * 3)
    assert largest_window(CONFIG, 10**8) is None
