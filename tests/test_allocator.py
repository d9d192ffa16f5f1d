"""Whether memory that was freed comes back from the system, counted by the page faults that this costs."""

import platform
import subprocess
import sys

import pytest

from stunet.allocator import keep_freed_memory

MEASURE = """
import resource, torch
from stunet.allocator import keep_freed_memory
if {kept}:
    keep_freed_memory()
faults = []
for _ in range({rounds}):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty({bytes} // 4).fill_(1)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""
MEGABYTE = 2**20
PAGE = 4096


def faults_of(size, kept, rounds):
    """Page faults of each of so many blocks, one after the other, of so many bytes."""
    program = MEASURE.format(bytes=size, kept=kept, rounds=rounds)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return [int(count) for count in ran.stdout.split()]


needs_glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")


@needs_glibc
def test_soon_large_blocks_cost_no_new_pages():
    size, rounds = 64 * MEGABYTE, 40
    assert min(faults_of(size, kept=False, rounds=rounds)) > 0.9 * size / PAGE
    assert max(faults_of(size, kept=True, rounds=rounds)[-10:]) < 100


@needs_glibc
def test_a_huge_block_goes_back():
    size = 1200 * MEGABYTE
    assert min(faults_of(size, kept=True, rounds=3)) > 0.9 * size / PAGE


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_elsewhere_nothing_happens(error, monkeypatch):
    def no_library(name):
        raise error

    monkeypatch.setattr("ctypes.CDLL", no_library)
    assert keep_freed_memory() is False
