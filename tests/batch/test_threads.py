import os

import pytest

from stunet.batch import threads
from stunet.batch.threads import let_waiting_threads_sleep, usual_threads


@pytest.mark.parametrize(
    ("backend", "is_installed", "before", "after"),
    [
        ("auto", True, None, "PASSIVE"),
        ("openvino", True, None, "PASSIVE"),
        ("auto", True, "ACTIVE", "ACTIVE"),
        ("auto", False, None, None),
        ("torch", True, None, None),
    ],
)
def test_threads_sleep_beside_openvino_unless_the_user_says_otherwise(
    monkeypatch, backend, is_installed, before, after
):
    monkeypatch.setattr(threads, "has_openvino", lambda: is_installed)
    monkeypatch.setenv("OMP_WAIT_POLICY", before or "")
    if before is None:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    let_waiting_threads_sleep(backend)
    assert os.environ.get("OMP_WAIT_POLICY") == after


def test_the_usual_threads_are_those_that_the_user_states(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert usual_threads() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "0")
    assert usual_threads() >= 1
