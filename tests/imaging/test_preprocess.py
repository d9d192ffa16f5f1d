"""Preprocessing against nnU-Net's own, with the largest difference printed; labels back on the scan's grid; memory."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.preprocess import cropped_view, prepare, preprocess
from stunet.imaging.volume import Volume
from stunet.plans.nnunet import plans_from
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from tests.imaging.nnunet_reference import CT_STATISTICS, preprocess_v1, preprocess_v2, v2_plans
from tests.phantoms import rotated_affine, smooth_scan

TOLERANCE = 1e-5
"""Largest difference allowed, as a fraction of the intensity range; a tenth of what was asked for."""

Z, CT = "ZScoreNormalization", "CTNormalization"


def thick_slices(volume: Volume, every: int = 5) -> Volume:
    """Keep every fifth slice: 15 mm slices of 3 mm pixels."""
    z, y, x = volume.spacing
    affine = volume.affine @ np.diag([1, 1, every, 1])
    return replace(volume, array=volume.array[:, ::every], affine=affine, stated_spacing=(z * every, y, x))


def zero_border(volume: Volume) -> Volume:
    """Zeros around the body, a cavity inside it, and one that is open to the outside."""
    array = volume.array.copy()
    z, y, x = (size // 8 for size in volume.shape)
    array[:, :z] = array[:, :, :y] = array[..., -2 * x :] = 0
    array[:, 3 * z : 4 * z, 3 * y : 5 * y, 3 * x : 4 * x] = 0
    array[:, 5 * z : 6 * z, : 3 * y, 2 * x : 3 * x] = 0
    return replace(volume, array=array)


def restore(labels, record):
    """Labels on the cropped grid brought to the scan's."""
    scan_labels = np.zeros(record.scan_shape, labels.dtype)
    cropped_view(scan_labels, record)[...] = labels
    return scan_labels


def rotated(volume: Volume) -> Volume:
    return replace(volume, affine=rotated_affine(volume.spacing[::-1]), stated_spacing=None)


def difference_to_v2(volume: Volume, plans: dict) -> float:
    """Largest difference to nnU-Net v2, as a fraction of its range."""
    expected, properties = preprocess_v2(volume, plans)
    image, record = preprocess(volume, plans_from(plans).preprocessing)
    assert tuple(image.shape) == expected.shape
    assert [tuple(pair) for pair in properties["bbox_used_for_cropping"]] == list(record.crop_box)
    assert record.cropped_shape == properties["shape_after_cropping_and_before_resampling"]
    return float(np.abs(image.numpy() - expected).max() / np.ptp(expected))


CASES = {
    "isotropic": (lambda ct: ct, {"spacing": (1.5, 1.5, 1.5)}),
    "anisotropic target": (lambda ct: ct, {"spacing": (5.0, 1.7, 1.3)}),
    "thick slices": (thick_slices, {"spacing": (1.5, 1.5, 1.5)}),
    "thick slices to thin pixels": (thick_slices, {"spacing": (2.5, 1.5, 2.0)}),
    "thick slices, transposed (1,0,2)": (thick_slices, {"spacing": (2.5, 2.0, 2.0), "transpose": (1, 0, 2)}),
    "thick slices, transposed (2,1,0)": (thick_slices, {"spacing": (2.5, 2.0, 2.0), "transpose": (2, 1, 0)}),
    "rotated": (rotated, {"spacing": (2.0, 1.5, 2.5)}),
    "zero border": (zero_border, {"spacing": (2.0, 1.7, 3.1)}),
    "zero border, transposed (2,0,1)": (zero_border, {"spacing": (2.0, 1.7, 3.1), "transpose": (2, 0, 1)}),
    "zero border, masked": (zero_border, {"spacing": (2.0, 1.7, 3.1), "masks": [True]}),
    "zero border, thick slices, masked": (
        lambda ct: thick_slices(zero_border(ct)),
        {"spacing": (1.5, 1.5, 1.5), "masks": [True], "transpose": (1, 2, 0)},
    ),
    "same grid": (lambda ct: ct, {"spacing": (3.0, 3.0, 3.0)}),
}


@pytest.mark.parametrize("scheme", [CT, Z])
@pytest.mark.parametrize("case", CASES)
def test_a_real_ct_is_nnunet_v2s(shared_data: Path, case: str, scheme: str) -> None:
    pytest.importorskip("nnunetv2")
    prepare, settings = CASES[case]
    ct = read_volume(shared_data / "totalseg_example/ct.nii.gz")
    ct = replace(ct, array=ct.array[:, :45, 20:70, 30:90])
    difference = difference_to_v2(prepare(ct), v2_plans(schemes=[scheme], **settings))
    print(f"CT, {case}, {scheme}: {difference:.1e} of the range")
    assert difference < TOLERANCE


@pytest.mark.parametrize("name", ["totalseg_example/mr.nii.gz", "ct_samples/thorax_cta_crop_ct.nii.gz", "hippocampus"])
@pytest.mark.parametrize("scheme", [CT, Z, "RescaleTo01Normalization", "NoNormalization"])
def test_other_real_scans_are_nnunet_v2s(shared_data: Path, name: str, scheme: str) -> None:
    pytest.importorskip("nnunetv2")
    folder = shared_data / "Dataset004_Hippocampus/imagesTr"
    scan = read_volume(sorted(folder.iterdir())[0] if name == "hippocampus" else shared_data / name)
    scan = replace(scan, array=scan.array[:, :60, :90, :90])
    spacing = tuple(size * factor for size, factor in zip(scan.spacing, (1.1, 1.3, 0.9), strict=True))
    difference = difference_to_v2(scan, v2_plans(spacing, [scheme]))
    print(f"{name}, {scheme}: {difference:.1e} of the range")
    assert difference < TOLERANCE


def test_several_channels_share_one_mask() -> None:
    pytest.importorskip("nnunetv2")
    first = zero_border(Volume(smooth_scan((24, 32, 40))[None], np.diag([1.5, 1.5, 3, 1])))
    second = smooth_scan((24, 32, 40), seed=1) % 256
    second[:, :6] = 0
    both = replace(first, array=np.stack([first.array[0], second]))
    schemes = [Z, "RGBTo01Normalization"]
    difference = difference_to_v2(both, v2_plans((2.0, 2.0, 2.0), schemes, [True, False]))
    print(f"two channels: {difference:.1e} of the range")
    assert difference < TOLERANCE


@pytest.mark.parametrize("use_mask", [False, True])
@pytest.mark.parametrize("scheme", ["CT", "nonCT"])
@pytest.mark.parametrize(
    "prepare", [lambda ct: ct, thick_slices, zero_border, lambda ct: thick_slices(zero_border(ct))]
)
def test_the_published_weights_get_nnunet_v1s(shared_data: Path, prepare: object, scheme: str, use_mask: bool) -> None:
    pytest.importorskip("nnunetv2")
    ct = read_volume(shared_data / "totalseg_example/ct.nii.gz")
    ct = prepare(replace(ct, array=ct.array[:, :45, 20:70, 30:90]))  # type: ignore[operator]
    kind = {"CT": ChannelNormalization("ct", **CT_STATISTICS, use_mask=use_mask)}
    channel = kind.get(scheme, ChannelNormalization("zscore", use_mask=use_mask))
    image, _ = preprocess(ct, PreprocessingPlan("nnunet_v1", (1.5,) * 3, (128,) * 3, (channel,)))
    expected = preprocess_v1(ct, (1.5,) * 3, scheme, use_mask)
    difference = np.abs(image.numpy() - expected).max() / np.ptp(expected)
    print(f"v1, {scheme}, mask {use_mask}: {difference:.1e} of the range")
    assert difference < TOLERANCE


@pytest.mark.parametrize("orientation", [None, "RAS", "PSL"])
@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1)])
def test_labels_return_to_where_they_came_from(orientation: str | None, transpose: tuple[int, int, int]) -> None:
    affine = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, 6], [0, 0, -4.0, 7], [0, 0, 0, 1]])
    volume = zero_border(Volume(smooth_scan((16, 24, 32))[None], affine))
    channel = ChannelNormalization("none")
    plan = PreprocessingPlan("nnunet_v2", (3.0,) * 3, (8,) * 3, (channel,), transpose, orientation)
    _, record = preprocess(volume, plan)
    labels = (volume.array[0] > 100).astype(np.uint8)
    there = cropped_view(labels, record)
    assert there.shape == record.cropped_shape
    assert np.shares_memory(there, labels)
    back = restore(there, record)
    np.testing.assert_array_equal(back, labels)
    assert back.flags.c_contiguous


def test_restore_is_nnunets_export() -> None:
    pytest.importorskip("nnunetv2")
    from nnunetv2.inference.export_prediction import insert_crop_into_image

    volume = zero_border(Volume(smooth_scan((16, 24, 32))[None], np.diag([1, 1, 2, 1])))
    plans = v2_plans((2.0, 2.0, 2.0), transpose=(1, 2, 0))
    _, properties = preprocess_v2(volume, plans)
    _, record = preprocess(volume, plans_from(plans).preprocessing)
    labels = np.random.default_rng(0).integers(0, 9, record.cropped_shape).astype(np.uint8)
    whole = np.zeros(properties["shape_before_cropping"], np.uint8)
    whole = insert_crop_into_image(whole, labels, properties["bbox_used_for_cropping"])
    np.testing.assert_array_equal(restore(labels, record), whole.transpose(plans["transpose_backward"]))


@pytest.mark.parametrize(
    ("convention", "expected"),
    [("nnunet_v2", (0, 1, 1)), ("nnunet_v1", (1, 1, 0))],
)
def test_the_way_back_looks_at_nnunets_grid_first(convention: str, expected: tuple[int, int, int]) -> None:
    """v2's export asks the network's grid first, v1's the scan's."""
    volume = Volume(smooth_scan((16, 16, 16))[None], np.diag([5.0, 1, 1, 1]))
    plan = PreprocessingPlan(convention, (4.0, 1.0, 1.0), (8,) * 3, (ChannelNormalization("none"),))  # type: ignore[arg-type]
    _, record = preprocess(volume, plan)
    assert record.logits_orders == expected
    assert record.image_separate_axis == 2
    assert record.cropped_spacing == (1.0, 1.0, 5.0)


def test_the_scan_is_left_alone() -> None:
    array = smooth_scan((8, 9, 10))[None].astype(np.float32)
    volume = zero_border(Volume(array, np.eye(4)))
    before = volume.array.copy()
    volume.array.flags.writeable = False
    for convention in ("nnunet_v1", "nnunet_v2"):
        for spacing in ((1.0,) * 3, (0.7,) * 3):
            channel = ChannelNormalization("zscore", use_mask=True)
            preprocess(volume, PreprocessingPlan(convention, spacing, (8,) * 3, (channel,)))  # type: ignore[arg-type]
    np.testing.assert_array_equal(volume.array, before)


@pytest.mark.parametrize("value", [0, -1000])
@pytest.mark.parametrize("scheme", ["zscore", "ct", "rescale_to_0_1"])
@pytest.mark.parametrize("convention", ["nnunet_v1", "nnunet_v2"])
def test_a_constant_scan_stays_finite(value: int, scheme: str, convention: str) -> None:
    volume = Volume(np.full((1, 8, 8, 8), value, np.int16), np.eye(4))
    channel = ChannelNormalization(scheme, std=100, use_mask=True)  # type: ignore[arg-type]
    plan = PreprocessingPlan(convention, (0.7,) * 3, (8,) * 3, (channel,))  # type: ignore[arg-type]
    image, record = preprocess(volume, plan)
    assert torch.isfinite(image).all()
    assert record.cropped_shape == (8, 8, 8)
    assert scheme == "ct" or not image.any()


def test_bad_scans_are_refused() -> None:
    plan = PreprocessingPlan("nnunet_v1", (2.0,) * 3, (8,) * 3, (ChannelNormalization("zscore"),))
    array = np.ones((1, 8, 8, 8), np.float32)
    array[0, 3, 2, 1], array[0, 5, 5, 5] = np.nan, -np.inf
    with pytest.raises(UserError, match=r"scan\.nii: 2 of 512 voxels are not finite .*x, y, z = \[1, 2, 3\]"):
        preprocess(Volume(array, np.eye(4), source="scan.nii"), plan)
    with pytest.raises(UserError, match=r"has 2 channel\(s\), but the model needs 1"):
        preprocess(Volume(np.ones((2, 8, 8, 8)), np.eye(4)), plan)
    with pytest.raises(UserError, match="8x8x8 voxels vanish"):
        preprocess(Volume(np.ones((1, 8, 8, 8)), np.diag([0.01, 1, 1, 1])), plan)
    with pytest.raises(UserError, match="colours from 0 to 255"):
        preprocess(
            Volume(np.full((1, 8, 8, 8), 300), np.eye(4)),
            replace(plan, normalization=(ChannelNormalization("rgb_to_0_1"),)),
        )


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("convention", ["nnunet_v1", "nnunet_v2"])
@pytest.mark.parametrize("thickness", [1.5, 6.0])
def test_a_gpu_gives_the_same(convention: str, thickness: float) -> None:
    volume = zero_border(Volume(smooth_scan((24, 48, 40))[None], np.diag([1.5, 1.5, thickness, 1])))
    channel = ChannelNormalization("zscore", use_mask=True)
    plan = PreprocessingPlan(convention, (2.0, 1.2, 1.3), (8,) * 3, (channel,))  # type: ignore[arg-type]
    there, here = preprocess(volume, plan, "cuda")[0], preprocess(volume, plan)[0]
    assert there.device.type == "cuda"
    torch.testing.assert_close(there.cpu(), here, atol=1e-4, rtol=0)


MEMORY_SCRIPT = """
import numpy as np, torch
from pathlib import Path
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.imaging.preprocess import preprocess
from stunet.imaging.volume import Volume
torch.set_num_threads(1)
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
plan = PreprocessingPlan("nnunet_v1", (1.5,) * 3, (128,) * 3, (ChannelNormalization("zscore"),))
preprocess(Volume(np.ones((1, 9, 512, 512), np.int16), np.eye(4)), plan)
array = np.empty((1, 200, 512, 512), np.int16)
array[:] = np.arange(512)
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
before = peak()
image, _ = preprocess(Volume(array, np.diag([0.75, 0.75, 1.0, 1.0])), plan)
print(before, peak(), image.numel() * 4)
"""


def test_memory_stays_near_input_and_output() -> None:
    """A 512x512x200 int16 CT (100 MiB) to 133x256x256 (33 MiB): the resampled planes (50 MiB), the output, slabs."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's memory accounts")
    done = subprocess.run([sys.executable, "-c", MEMORY_SCRIPT], capture_output=True, text=True, check=True)
    before, after, output = (int(word) for word in done.stdout.split())
    print(f"preprocessing adds {(after - before) / 1024:.0f} MiB, of which output {output / 2**20:.0f} MiB")
    assert output / 2**20 < (after - before) / 1024 < 150


STREAM_TOLERANCE = 2e-6
"""Largest difference between planes in portions and all at once, as a fraction of the range: float32's rounding."""

STREAMED = {
    "up along z": ((60, 12, 10), (3.0, 1.0, 1.2), {}),
    "down along z": ((90, 12, 10), (1.0, 1.0, 1.2), {"spacing": (1.6, 1.5, 0.9)}),
    "thick z": ((30, 14, 13), (6.0, 1.0, 1.2), {}),
    "thick z, linear": ((30, 14, 13), (6.0, 1.0, 1.2), {"image_order_z": 1}),
    "thick y": ((60, 14, 13), (1.6, 8.0, 1.2), {}),
    "thick x": ((60, 14, 13), (1.6, 1.0, 8.0), {}),
    "thick z becomes x": ((30, 14, 60), (6.0, 1.0, 1.6), {"transpose_forward": (2, 1, 0)}),
    "turned and flipped": ((30, 40, 20), (1.5, 2.0, 1.2), {"transpose_forward": (2, 0, 1), "orientation": "PIR"}),
    "cropped MR with a mask": ((60, 24, 16), (1.6, 1.1, 0.9), {"masks": [True]}),
    "thick MR with a mask": ((30, 24, 16), (6.0, 1.1, 0.9), {"masks": [True]}),
    "two channels": ((60, 12, 10), (1.6, 1.1, 0.9), {"schemes": ["ct", "zscore"], "masks": [False, True]}),
    "range": ((60, 12, 10), (1.6, 1.1, 0.9), {"schemes": ["rescale_to_0_1"]}),
    "same grid": ((40, 12, 10), (1.0, 1.0, 1.0), {}),
    "one voxel": ((1, 1, 1), (2.0, 1.0, 3.0), {}),
    "tiny": ((2, 3, 1), (1.4, 1.0, 3.0), {}),
}


def streamed_case(case: str, convention: str) -> tuple[Volume, PreprocessingPlan]:
    shape, (z, y, x), settings = STREAMED[case]
    settings = dict(settings)
    schemes = settings.pop("schemes", ["zscore"])
    masks = settings.pop("masks", [False] * len(schemes))
    channels = tuple(
        ChannelNormalization(scheme, 50.0, 120.0, -800.0, 600.0, use_mask)
        for scheme, use_mask in zip(schemes, masks, strict=True)
    )
    array = np.stack([smooth_scan(shape, seed) for seed in range(len(schemes))])
    volume = Volume(array, np.diag([x, y, z, 1.0]))
    plan = PreprocessingPlan(convention, settings.pop("spacing", (1.0, 1.0, 1.0)), (8,) * 3, channels, **settings)  # type: ignore[arg-type]
    return (zero_border(volume) if any(masks) else volume), plan


def portions(depth: int, first: int, step: int) -> list[tuple[int, int]]:
    stops = [*range(first, depth, step), depth]
    return list(zip([0, *stops], stops, strict=False))


@pytest.mark.parametrize("convention", ["nnunet_v1", "nnunet_v2"])
@pytest.mark.parametrize("case", STREAMED)
def test_planes_in_portions_are_the_whole_image(case: str, convention: str, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, plan = streamed_case(case, convention)
    whole, record = preprocess(volume, plan)
    monkeypatch.setattr("stunet.imaging.resample.SLAB_VOXELS", 700)  # several slabs, also of what is small
    image = prepare(volume, plan)
    assert image.shape == tuple(whole.shape)
    assert image.record == record
    for first, step in [(1, 1), (5, 3), (128, 64), (2, 1000)]:
        pieces = [image.planes(start, stop) for start, stop in portions(image.shape[1], first, step)]
        difference = float((torch.cat(pieces, dim=1) - whole).abs().max() / max(float(np.ptp(whole)), 1e-30))
        assert difference < STREAM_TOLERANCE, (first, step)


def test_planes_that_are_not_there_are_refused() -> None:
    image = prepare(*streamed_case("tiny", "nnunet_v2"))
    assert image.planes(1, 1).shape == (1, 0, 3, 3)
    for start, stop in [(-1, 2), (0, 4), (2, 1)]:
        with pytest.raises(ValueError, match=r"there are planes 0\.\.2"):
            image.planes(start, stop)


STREAMING_SCRIPT = """
import numpy as np, torch
from pathlib import Path
from stunet.plans.preprocessing import ChannelNormalization, PreprocessingPlan
from stunet.imaging.preprocess import prepare
from stunet.imaging.volume import Volume
torch.set_num_threads(1)
def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
def growth(slices, convention):
    array = np.empty((1, slices, 256, 256), np.int16)
    array[:] = np.arange(256)
    plan = PreprocessingPlan(convention, (1.5,) * 3, (128,) * 3, (ChannelNormalization("zscore"),))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from what is held now
    before = peak()
    image = prepare(Volume(array, np.diag([1.4, 1.5, 1.0, 1.0])), plan)
    depth = image.shape[1]
    for start in range(0, depth, 32):
        image.planes(start, min(start + 32, depth))
    return (peak() - before) / 1024
growth(50, "nnunet_v2")
for convention in ("nnunet_v1", "nnunet_v2"):
    print(growth(150, convention), growth(450, convention))
"""


def test_memory_does_not_grow_with_the_scan() -> None:
    """150 and 450 slices of 256x256, to 100 and 300 planes of 256x239: the whole image would be 47 MiB more."""
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("needs Linux's memory accounts")
    fixed = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "100000"}  # what is freed goes back to the system at once
    command = [sys.executable, "-c", STREAMING_SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=fixed)
    for line in done.stdout.splitlines():
        short, long = (float(word) for word in line.split())
        print(f"streaming adds {short:.0f} MiB for a short scan, {long:.0f} MiB for a long one")
        assert long < short + 15
