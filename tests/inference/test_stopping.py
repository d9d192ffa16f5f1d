"""A stopped prediction writes nothing and leaves no thread behind, and the predictor can be used again."""

import threading

import numpy as np
import pytest

from stunet.errors import Stopped
from stunet.inference.predictor import Predictor
from tests.inference.samples import EXACT, tiny_model
from tests.inference.test_predictor import scan


class Cancelled(Exception):  # noqa: N818 (nothing went wrong)
    pass


@pytest.fixture(scope="module")
def predictor():
    return Predictor(tiny_model(), EXACT)


def assert_works_on(predictor, tmp_path, threads):
    assert list(tmp_path.iterdir()) == []
    assert set(threading.enumerate()) == threads
    assert np.array_equal(predictor.predict(scan()).labels, Predictor(tiny_model(), EXACT).predict(scan()).labels)


def test_what_the_callback_raises_ends_it(predictor, tmp_path):
    threads, seen = set(threading.enumerate()), []

    def cancel(done, total):
        seen.append((done, total))
        if done == 2:
            raise Cancelled

    with pytest.raises(Cancelled):
        predictor.predict(scan(), cancel, probabilities=tmp_path / "maps")
    assert [done for done, _ in seen] == [1, 2] and seen[0][1] > 2
    assert_works_on(predictor, tmp_path, threads)


def test_an_event_from_another_thread_ends_it(predictor, tmp_path):
    stop, threads, seen = threading.Event(), set(threading.enumerate()), []

    def tell(done, total):
        seen.append(done)
        other = threading.Thread(target=stop.set)
        other.start()
        other.join()

    with pytest.raises(Stopped, match=r"after 2 of \d+ windows"):
        predictor.predict(scan(), tell, probabilities=tmp_path / "maps", stop=stop)
    assert seen == [1]
    assert_works_on(predictor, tmp_path, threads)


def test_an_event_that_is_not_set_changes_nothing(predictor):
    stopped_never = predictor.predict(scan(), stop=threading.Event())
    assert np.array_equal(stopped_never.labels, predictor.predict(scan()).labels)
