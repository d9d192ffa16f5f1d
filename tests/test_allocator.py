"""Freed memory is reused instead of requested again from the system, as counted by page faults."""

import platform
import subprocess
import sys

import pytest

from stunet.allocator import _group_limits, keep_freed_memory, memory_limit, physical_memory

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
    """The page faults of allocating blocks of this size one after the other."""
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


def test_the_limits_of_a_job_and_of_all_around_it_count(tmp_path):
    job = tmp_path / "sys" / "system" / "job"
    job.mkdir(parents=True)
    (tmp_path / "cgroup").write_text("1:cpu:/elsewhere\n0::/system/job\n")
    (job / "memory.max").write_text("max\n")
    (job.parent / "memory.max").write_text("8000\n")
    (job.parent.parent / "memory.max").write_text("9000\n")
    assert _group_limits(tmp_path / "cgroup", tmp_path / "sys") == [8000, 9000]
    assert _group_limits(tmp_path / "none", tmp_path / "sys") == []


@pytest.mark.skipif(physical_memory() is None, reason="the system does not say how much memory there is")
def test_no_more_is_available_than_there_is():
    assert 0 < memory_limit() <= physical_memory()


READ_FILE = """
import mmap, sys
from pathlib import Path
from stunet.allocator import forget_read_files
file = open(sys.argv[1], "rb")
read, changed = (mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) for _ in range(2))
total, changed[0:1] = sum(read[:]), b"x"
in_memory = []
for _ in range(2):
    in_memory.append(int(next(l for l in open("/proc/self/status") if l.startswith("RssFile")).split()[1]) * 1024)
    forget_read_files()
print(*in_memory, total == sum(read[:]), changed[0:1] == b"x")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux")
def test_read_files_leave_the_memory_and_keep_their_contents(tmp_path):
    (tmp_path / "weights").write_bytes(bytes(range(256)) * (32 * MEGABYTE // 256))
    command = [sys.executable, "-c", READ_FILE, str(tmp_path / "weights")]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, *is_same = ran.stdout.split()
    assert int(before) - int(after) > 31 * MEGABYTE
    assert is_same == ["True", "True"]
