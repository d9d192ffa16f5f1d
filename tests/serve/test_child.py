"""A process for work that may end it."""

import os
import threading
import time

import pytest

from stunet.errors import FileError, NotEnoughMemoryError, Stopped
from stunet.serve.child import Child, ChildEndedError, InternalError


def add(a, b):
    return a + b


def process():
    return os.getpid()


def refuse():
    raise FileError("a sentence")


def fail():
    raise ZeroDivisionError("Do" + "e")


def run_out():
    raise MemoryError


def crash():
    os._exit(9)


def count(to, tell, stop):
    for number in range(to):
        tell(number)
        if stop.wait(0.05):
            raise Stopped("stopped")
    return to


@pytest.fixture(scope="module")
def child():
    child = Child("test")
    yield child
    child.end()


def test_calls_are_carried_out_in_one_process(child):
    assert child.call(add, 1, 2) == 3
    assert child.call(process) == child.call(process) != os.getpid()


def test_errors_come_back(child, caplog):
    with pytest.raises(FileError, match="a sentence"):
        child.call(refuse)
    with pytest.raises(NotEnoughMemoryError):
        child.call(run_out)
    with pytest.raises(InternalError):
        child.call(fail)
    assert "ZeroDivisionError" in caplog.text and "in fail" in caplog.text
    assert "Doe" not in caplog.text  # what an error says may be a patient's


def test_another_process_follows_one_that_ended(child):
    before = child.call(process)
    with pytest.raises(ChildEndedError):
        child.call(crash)
    assert child.call(process) != before


def test_a_call_tells_and_is_stopped(child):
    told = []

    def listen(number):
        told.append(number)
        if number == 2:
            child.stop()

    with pytest.raises(Stopped):
        child.follow(count, 1000, on_told=listen)
    assert told[:3] == [0, 1, 2] and len(told) < 10
    child.stop()  # of a call that is over
    assert child.follow(count, 3, on_told=told.append) == 3


def test_a_listener_that_fails_costs_the_process_and_no_more(child):
    with pytest.raises(KeyError):
        child.follow(count, 1000, on_told=lambda number: {}["a"])
    assert child.call(add, 1, 2) == 3


def test_a_call_that_hears_nothing_is_ended_with_its_process(child):
    threading.Timer(0.5, child.end).start()
    start = time.monotonic()
    with pytest.raises(ChildEndedError):
        child.call(time.sleep, 60)
    assert time.monotonic() - start < 20
