"""OpenVINO's runtime in a larger program."""

import signal
import subprocess
import sys

import pytest

pytest.importorskip("openvino")

SIGNAL_AFTER_TWO_BACKENDS = """
import os, signal, torch
from stunet.inference.backends.openvino_backend import OpenVinoBackend
from tests.inference.samples import WINDOW, tiny_network

window = torch.zeros(1, 1, *WINDOW)
first = OpenVinoBackend([tiny_network(3, seed=1)], torch.device("cpu"), "float32", WINDOW)
second = OpenVinoBackend([tiny_network(3, seed=2)], torch.device("cpu"), "float32", WINDOW)
first.run(window), second.run(window)
del first
del second
signal.signal(signal.SIGTERM, lambda number, frame: print("heard", number))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_heard_after_two_backends_are_gone():
    found = subprocess.run([sys.executable, "-c", SIGNAL_AFTER_TWO_BACKENDS], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, f"heard {int(signal.SIGTERM)}\n"), found.stderr
