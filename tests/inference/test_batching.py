"""Batches give the same features in the same order, regardless of memory."""

import weakref
from types import SimpleNamespace

import pytest
import torch

from stunet.errors import NotEnoughMemoryError, UserError
from stunet.inference.batching import (
    MOST_BYTES,
    FittedBatches,
    WindowBatches,
    explaining_full_memory,
    fitting_size,
    window_batches,
)
from stunet.inference.head import identity_head
from stunet.inference.sliding import Sliding, feature_planes
from tests.inference.samples import WholeImage

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
WINDOW = (4, 8, 8)
GIB = 2**30


class SmallMemoryBackend:
    """A `Backend` that runs out of memory above a number of windows, and records its inputs."""

    name, precision, device, allocates_by_torch = "small", "float32", CPU, True
    head = identity_head(2, CPU)

    def __init__(self, most):
        self.most = most
        self.tried = []
        self.failed = []

    def run(self, windows_BCZYX):
        self.tried.append(len(windows_BCZYX))
        features_BZYXF = torch.cat([windows_BCZYX.sin(), windows_BCZYX.exp()], dim=1).movedim(1, -1)
        if len(windows_BCZYX) > self.most:
            self.failed.append(weakref.ref(features_BZYXF))
            raise torch.OutOfMemoryError("CUDA out of memory")
        assert all(features() is None for features in self.failed), "the failed batch is still in memory"
        return features_BZYXF


def backend_on(device, allocates_by_torch=True):
    return SimpleNamespace(device=device, allocates_by_torch=allocates_by_torch)


def planes_of(image, most, told=None, **options):
    backend = SmallMemoryBackend(most)
    on_window = None if told is None else lambda *numbers: told.append(numbers)
    planes = list(feature_planes(WholeImage(image), backend, Sliding(WINDOW, **options), on_window))
    return torch.stack(planes), backend


@pytest.fixture
def image():
    return torch.randn(1, 10, 20, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("most", "tried"),
    [
        (100, [8, 8, 8, 8]),
        (7, [8, 4, 4, 4, 4, 4, 4, 4, 4]),
        (2, [8, 4, *[2] * 16]),
        (1, [8, 4, 2, *[1] * 32]),
    ],
)
@pytest.mark.parametrize("mirror_axes", [(), (0, 2)])
def test_fewer_windows_after_memory_ran_out(image, most, tried, mirror_axes):
    told = []
    planes, backend = planes_of(image, most, told, batch_size=100, mirror_axes=mirror_axes)
    one_by_one, _ = planes_of(image, most=1, batch_size=1, mirror_axes=mirror_axes)
    assert torch.equal(planes, one_by_one)
    copies = 2 ** len(mirror_axes)
    assert [size for size in tried if size <= most for _ in range(copies)] == [
        size for size in backend.tried if size <= most
    ]
    assert [size for size in tried if size > most] == [size for size in backend.tried if size > most]
    assert told == [(number, 32) for number in range(1, 33)]


def test_one_window_at_a_time_unless_asked(image):
    _, backend = planes_of(image, most=100)
    assert set(backend.tried) == {1}


def test_no_memory_for_one_window(image):
    with pytest.raises(UserError, match=r"Not enough memory for one window.*smaller model"):
        planes_of(image, most=0, batch_size=8)


def test_memory_runs_out_during_mirroring():
    windows = [torch.full((1, 2, 2, 2), float(number)) for number in range(5)]
    calls = []

    def run(windows_BCZYX):
        calls.append(len(windows_BCZYX))
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return windows_BCZYX.movedim(1, -1)

    batches = WindowBatches(run, CPU, 3)
    assert [int(features.max()) for features in batches.features(windows)] == [0, 1, 2, 3, 4]
    assert calls == [3, 2, 1, 1]
    assert batches.size == 1


def test_a_batch_is_freed_before_the_next():
    answers = []

    def run(windows_BCZYX):
        in_memory.append(sum(answer() is not None for answer in answers))
        answer_BZYXC = windows_BCZYX.movedim(1, -1).numpy() * 2
        answers.append(weakref.ref(answer_BZYXC))
        return torch.from_numpy(answer_BZYXC)

    in_memory = []
    features = WindowBatches(run, CPU, 2).features([torch.ones(1, 2, 2, 2)] * 6)
    sums = [float(next(features).sum()) for _ in range(6)]
    assert sums == [16.0] * 6
    assert in_memory == [0, 0, 0]
    del features
    kept = list(WindowBatches(run, CPU, 2).features([torch.ones(1, 2, 2, 2)] * 6))
    assert len(kept) == 6
    assert in_memory[4:] == [1, 2]


def test_other_errors_are_not_lack_of_memory():
    def run(windows_BCZYX):
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        next(WindowBatches(run, GPU, 4).features([torch.ones(1, 2, 2, 2)] * 4))


@pytest.mark.parametrize(
    ("free", "window", "size"),
    [
        (10 * GIB, GIB, 8),
        (10 * GIB - 1, GIB, 7),
        (GIB, GIB, 1),
        (0, GIB, 1),
        (80 * GIB, GIB, MOST_BYTES // GIB),
        (80 * GIB, 3 * GIB, 2),
        (80 * GIB, 30 * GIB, 1),
    ],
)
def test_fitting_size(free, window, size):
    assert fitting_size(free, window) == size


def fake_gpu(monkeypatch, free, window):
    """Make torch report a GPU with this free memory and this memory per window."""
    memory = SimpleNamespace(allocated=3 * GIB, reserved=4 * GIB, peak=60 * GIB, resets=0)

    def reset(device):
        memory.peak, memory.resets = memory.allocated, memory.resets + 1

    def run(windows_BCZYX):
        memory.peak = max(memory.peak, memory.allocated + len(windows_BCZYX) * window)
        if len(windows_BCZYX) * window > free:
            raise torch.OutOfMemoryError
        run.sizes.append(len(windows_BCZYX))
        return windows_BCZYX.movedim(1, -1)

    run.sizes = []
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: memory.allocated)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: memory.reserved)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: memory.peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free - GIB, 80 * GIB))
    return run, memory


@pytest.mark.parametrize(
    ("free", "window", "sizes"),
    [(6 * GIB, GIB, [1, 4, 2, 4, 3]), (80 * GIB, GIB, [1, 6, 7]), (GIB, GIB, [1] * 14)],
)
def test_the_first_window_is_measured(monkeypatch, free, window, sizes):
    run, memory = fake_gpu(monkeypatch, free, window)
    batches = window_batches(run, backend_on(GPU), None)
    rows = [[torch.full((1, 2, 2, 2), float(number)) for number in range(7)]] * 2
    numbers = [int(features.max()) for row in rows for features in batches.features(row)]
    assert numbers == [*range(7), *range(7)]
    assert run.sizes == sizes
    assert memory.resets == 1


def test_too_small_a_gpu(monkeypatch):
    run, _ = fake_gpu(monkeypatch, free=GIB, window=2 * GIB)
    with pytest.raises(UserError, match="Not enough free GPU memory"):
        next(window_batches(run, backend_on(GPU), None).features([torch.ones(1, 2, 2, 2)]))


@pytest.mark.parametrize(
    ("backend", "size", "kind", "first"),
    [
        (backend_on(CPU), None, WindowBatches, 1),
        (backend_on(torch.device("mps")), None, WindowBatches, 1),
        (backend_on(CPU), 3, WindowBatches, 3),
        (backend_on(GPU), 3, WindowBatches, 3),
        (backend_on(GPU), None, FittedBatches, 1),
        (backend_on(GPU, allocates_by_torch=False), None, WindowBatches, 1),  # torch's counters do not include it
    ],
)
def test_the_size_that_was_asked_for(backend, size, kind, first):
    batches = window_batches(lambda windows: windows, backend, size)
    assert (type(batches), batches.size) == (kind, first)


def test_a_machine_without_room_for_a_window_is_told_so():
    def run(windows_BCZYX):
        raise torch.OutOfMemoryError

    with pytest.raises(UserError, match="Close other programs"):
        next(WindowBatches(run, CPU, 1).features([torch.ones(1, 2, 2, 2)]))


def test_apples_gpus_have_no_exception_of_their_own(monkeypatch):
    """There, a lack of memory raises a plain RuntimeError, and another function empties the cache."""
    emptied = []
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append(True))

    def run(windows):
        if len(windows) > 2:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 5.00 GB, other allocations: 1.00 GB)")
        return windows.movedim(1, -1)

    batches = WindowBatches(run, torch.device("mps"), 8)
    windows = list(torch.randn(5, 1, *WINDOW))
    assert torch.equal(torch.stack(list(batches.features(windows))), torch.stack(windows).movedim(1, -1))
    assert (batches.size, len(emptied)) == (2, 1)
    with (
        pytest.raises(NotEnoughMemoryError, match="memory on mps"),
        explaining_full_memory(torch.device("mps")),
    ):
        run(torch.zeros(3, 1))
