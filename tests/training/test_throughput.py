"""The speed of a training: its arithmetic against torch's own count, its times against a clock that is set by hand."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stunet.networks.stunet import STUNet
from stunet.training import throughput
from stunet.training.throughput import Speedometer, peak_tflops, tflop_per_sample


def test_a_step_is_three_forward_passes():
    """torch counts the operations of a forward and a backward pass; the image needs no gradient."""
    network = STUNet(1, 3, width=4, deep_supervision=True)
    with FlopCounterMode(display=False) as counter:
        sum(output.sum() for output in network(torch.zeros(1, 1, 64, 64, 64))).backward()
    counted = counter.get_total_flops() / 1e12
    print(f"ours {tflop_per_sample(network, (64, 64, 64)):.5f}, torch's {counted:.5f} TFLOP")
    assert tflop_per_sample(network, (64, 64, 64)) == pytest.approx(counted, rel=0.02)


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: now[0])

    def pass_time(seconds):
        now[0] += seconds

    return pass_time


def test_speed_and_time_left(clock):
    speed = Speedometer(samples=2, tflop=0.5, peak=4.0)
    speed.start_epoch()
    for step in (1, 2, 3):
        clock(0.25)
        speed.end_step()
        report = speed.report(step, 10, 0, 1.0, None, 0.01)
        assert (report.samples_per_second, report.tflops, report.peak_fraction) == (8, 2, 0.5)
    assert report.seconds_left == 7 * 0.25
    clock(5)  # a validation
    speed.start_epoch()
    clock(0.5)
    speed.end_step()
    report = speed.report(4, 10, 1, 1.0, 0.8, 0.01)
    assert report.samples_per_second == 4
    assert report.seconds_left == pytest.approx(6 * (0.25 + 0.25 + 5.5) / 3)


def test_a_peak_that_is_unknown():
    assert Speedometer(1, 1.0, None).report(1, 1, 0, 0.0, None, 0.0).peak_fraction is None
    assert peak_tflops(torch.device("mps"), "float32") is None


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA A40", 150),
        ("NVIDIA RTX A4000", None),
        ("NVIDIA L4", 121),
        ("NVIDIA L40S", 362),
        ("NVIDIA GeForce RTX 4090", 165),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("Tesla T4", 65),
        ("X", None),
    ],
)
def test_a_gpu_by_its_name(monkeypatch, name, peak):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_tflops(torch.device("cuda"), "bfloat16") == peak
    assert peak_tflops(torch.device("cuda"), "float32") is None


def test_a_cpu_is_measured():
    peak = peak_tflops(torch.device("cpu"), "float32")
    print(f"this CPU, one thread: {peak:.3f} TFLOP/s")
    assert 0.001 < peak < 100
