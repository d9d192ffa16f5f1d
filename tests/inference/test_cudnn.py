"""cuDNN's settings while networks run, and the user's own before and after. They exist even without CUDA."""

import threading

import pytest
import torch
from torch.backends import cudnn

from stunet.inference.backends.cudnn import exact_and_tuned
from stunet.inference.backends.torch_backend import TorchBackend
from tests.inference.samples import tiny_network

OURS = (True, False)
"""benchmark, allow_tf32."""


def settings():
    return cudnn.benchmark, cudnn.allow_tf32


@pytest.mark.parametrize("users", [(False, True), (True, True), (False, False)])
def test_the_users_settings_come_back(users):
    with cudnn.flags(enabled=True, benchmark=users[0], allow_tf32=users[1]):
        with exact_and_tuned():
            assert settings() == OURS
        assert settings() == users
        with pytest.raises(RuntimeError, match="fails"), exact_and_tuned():
            raise RuntimeError("fails")
        assert settings() == users


def test_a_thread_that_ends_leaves_the_others_theirs():
    before, entered, may_leave, found = settings(), threading.Event(), threading.Event(), []

    def first():
        with exact_and_tuned():
            entered.set()
            may_leave.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    entered.wait(10)
    with exact_and_tuned():
        may_leave.set()
        thread.join()
        found.append(settings())
    assert found == [OURS] and settings() == before


def test_the_backend_runs_with_them():
    backend, found = TorchBackend([tiny_network()], torch.device("cpu")), []
    maps = backend._maps
    backend._maps = lambda windows: found.append(settings()) or maps(windows)
    backend.run(torch.zeros(1, 1, 16, 16, 16))
    assert found == [OURS]
