"""Damaged files of every kind are read or refused with a sentence. `make fuzz MINUTES=30` tries far more of them."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.internal.conjecture import providers
from hypothesis.internal.constants_ast import Constants

from tests.fuzz.corpus import CRASHES, entries
from tests.fuzz.reading import read_or_refuse
from tests.fuzz.targets import TARGETS

EXAMPLES = 100
"""For each reader: all of them take a minute."""


@pytest.fixture(autouse=True)
def same_files_every_time(monkeypatch):
    """Hypothesis also tries the constants of all modules that happen to be imported, which differ from run to run."""
    monkeypatch.setattr(providers, "_get_local_constants", Constants)


every_reader = pytest.mark.parametrize("kind", TARGETS)


@every_reader
def test_sound_files_are_read(kind):
    sound = entries(kind)
    assert sound
    for files in sound:
        assert read_or_refuse(TARGETS[kind].read, files) is None


@every_reader
def test_what_once_crashed_a_reader_is_read_or_refused(kind):
    for files in entries(kind, CRASHES):
        refusal = read_or_refuse(TARGETS[kind].read, files)
        assert refusal is None or refusal.strip()


@every_reader
def test_damaged_files_are_read_or_refused(kind):
    target, sound = TARGETS[kind], entries(kind)

    @settings(
        max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    @given(st.sampled_from(sound).flatmap(target.damaged))
    def check(files):
        refusal = read_or_refuse(target.read, files)
        assert refusal is None or refusal.strip()

    check()
