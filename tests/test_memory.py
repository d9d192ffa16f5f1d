"""Lack of main memory becomes a sentence."""

import errno

import pytest

from stunet.errors import NotEnoughMemoryError
from stunet.memory import explaining_full_main_memory, lacks_memory

TORCH = (
    "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate "
    "8192000 bytes. Error code 12 (Cannot allocate memory)"
)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError(TORCH),
        RuntimeError("std::bad_alloc"),
        RuntimeError("can't start new thread"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=["numpy", "torch", "C++", "threads", "system"],
)
def test_each_librarys_way_to_say_it(error):
    assert lacks_memory(error)
    with (
        pytest.raises(NotEnoughMemoryError, match=r"^ct\.nii: there is not enough memory"),
        explaining_full_main_memory("ct.nii"),
    ):
        raise error


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), OSError(errno.ENOSPC, "No space left"), KeyError(1)])
def test_other_errors_are_left_alone(error):
    with pytest.raises(type(error)) as raised, explaining_full_main_memory("ct.nii"):
        raise error
    assert raised.value is error


def test_what_is_explained_already_is_left_alone():
    first = NotEnoughMemoryError("Not enough memory on cuda for this model and scan.")
    with pytest.raises(NotEnoughMemoryError) as raised, explaining_full_main_memory("ct.nii"):
        raise first
    assert raised.value is first
