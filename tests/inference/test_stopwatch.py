import pytest
import torch

from stunet.inference.stopwatch import Stopwatch


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_the_time_of_a_gpu_is_that_of_finished_work(monkeypatch, kind):
    """Work on a GPU may still run when the call that started it returns."""
    waited = []
    monkeypatch.setattr(getattr(torch, kind), "synchronize", lambda *device: waited.append(device))
    Stopwatch(torch.device(kind)).lap()
    assert len(waited) == 1
