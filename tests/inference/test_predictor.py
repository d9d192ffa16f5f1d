"""The streaming predictor equals a simple one that stores every logit at every voxel."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec

import nibabel
import numpy as np
import pytest
import SimpleITK
import torch
from scipy import ndimage

from stunet.errors import NotEnoughMemoryError, UserError
from stunet.imaging.box import body_box
from stunet.imaging.preprocess import cropped_view, preprocess
from stunet.imaging.volume import Volume
from stunet.inference.backends import precision
from stunet.inference.backends.precision import cpu_computes_bfloat16, default_precision
from stunet.inference.mirroring import mirrored_axes
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.networks.registry import build, network_spec
from stunet.plans.labels import Region
from tests.inference.samples import EXACT, STRIDES, assert_labels_follow, plain_logits, tiny_model


def scan(shape=(13, 20, 26), spacing=(1.7, 0.8, 1.0), channels=1, dtype=np.int16) -> Volume:
    """Smooth random blobs with a rim of zeros; spacing (Z, Y, X) mm, as stored left to right, posterior to anterior."""
    rng = np.random.default_rng(0)
    array = ndimage.gaussian_filter(rng.standard_normal((channels, *shape)), (0, 1, 1, 1)) * 1000
    array[:, :, :2] = 0
    array[..., -1] = 0
    return Volume(array.astype(dtype), np.diag([-spacing[2], spacing[1], spacing[0], 1.0]))


def plain_cropped_logits(volume, model, mirror_axes=((),)):
    image, record = preprocess(volume, model.plan)
    logits = plain_logits(image, model.networks, mirror_axes=mirror_axes).numpy()
    factors = [new / old for new, old in zip(record.cropped_shape, record.network_shape, strict=True)]
    return np.stack([ndimage.zoom(k, factors, order=1, mode="nearest", grid_mode=True) for k in logits]), record


def assert_predicts_as_plain(volume, model, config=EXACT, mirror_axes=((),)):
    segmentation = Predictor(model, config).predict(volume)
    assert segmentation.labels.shape == volume.shape
    logits, record = plain_cropped_logits(volume, model, mirror_axes)
    inside = cropped_view(segmentation.labels, record)
    assert_labels_follow(inside, logits, 1e-5)
    assert len(np.unique(inside)) > 2
    assert segmentation.labels.astype(bool).sum() == inside.astype(bool).sum()


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"spacing": (2.0, 1.5, 0.7)},
        {"transpose_forward": (2, 0, 1)},
        {"orientation": "RAS", "convention": "nnunet_v1"},
        {"orientation": "PIR", "transpose_forward": (1, 0, 2)},
    ],
    ids=str,
)
def test_any_grid(changes):
    assert_predicts_as_plain(scan(), tiny_model(**changes))


def test_channels_folds_and_mirroring():
    model = tiny_model(num_classes=20, input_channels=2, folds=2)
    config = replace(EXACT, mirror=True, batch_size=2)
    assert_predicts_as_plain(scan(channels=2, dtype=np.float32), model, config, mirrored_axes(model.card.mirror_axes))


def test_a_scan_smaller_than_a_window():
    assert_predicts_as_plain(scan((3, 9, 7)), tiny_model())


def test_more_labels_than_a_byte_holds():
    segmentation = Predictor(tiny_model(num_classes=300), EXACT).predict(scan())
    assert segmentation.labels.dtype == np.uint16
    assert segmentation.labels.max() > 255
    assert Predictor(tiny_model(num_classes=256), EXACT).predict(scan()).labels.dtype == np.uint8


def test_paths_names_and_timings(tmp_path):
    volume = scan(channels=2)
    paths = [tmp_path / f"case_000{channel}.nii.gz" for channel in range(2)]
    for path, array in zip(paths, volume.array, strict=True):
        nibabel.Nifti1Image(array.T, volume.affine).to_filename(path)
    predictor = Predictor(tiny_model(input_channels=2), EXACT)
    told = []
    from_paths = predictor.predict(paths, on_window=lambda done, total: told.append((done, total)))
    assert np.array_equal(from_paths.labels, predictor.predict(volume).labels)
    assert told == [(number, told[-1][1]) for number in range(1, told[-1][1] + 1)]
    assert from_paths.names == predictor.model.names
    assert min(vars(from_paths.timings).values()) > 0
    from_paths.save(tmp_path / "labels.nii.gz")
    saved = nibabel.load(tmp_path / "labels.nii.gz")
    assert np.array_equal(np.asarray(saved.dataobj).T, from_paths.labels)
    assert np.allclose(saved.affine, volume.affine)


def test_the_wrong_number_of_channels():
    with pytest.raises(UserError, match=r"1 channel\(s\).*needs 2: channel_0, channel_1"):
        Predictor(tiny_model(input_channels=2), EXACT).predict(scan())


def test_an_empty_answer_is_said_aloud():
    model = tiny_model()
    with torch.no_grad():
        model.networks[0].head.bias[0] = 1e6
    (sentence,) = Predictor(model, EXACT).predict(scan()).warnings
    assert "No structure was found" in sentence


def test_threads_do_not_disturb_each_other():
    predictor = Predictor(tiny_model(), EXACT)
    scans = [scan(), scan((9, 18, 20))] * 2
    one_by_one = [predictor.predict(volume).labels for volume in scans]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda volume: predictor.predict(volume).labels, scans)
    assert all(np.array_equal(a, b) for a, b in zip(one_by_one, together, strict=True))


def test_predicting_changes_nothing():
    volume, model = scan(), tiny_model()
    before = volume.array.copy()
    Predictor(model, EXACT).predict(volume)
    assert np.array_equal(volume.array, before)
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"step": 0.0}, "step"),
        ({"step": 1.5}, "step"),
        ({"batch_size": 0}, "batch size"),
        ({"backend": "tensorflow"}, r"no backend 'tensorflow'.* Known names: auto, torch"),
        ({"precision": "float64"}, r"no precision 'float64'.* Known names: auto, float32"),
    ],
)
def test_impossible_settings(settings, sentence):
    with pytest.raises(UserError, match=sentence):
        InferenceConfig(**settings)


def test_a_device_that_is_not_here():
    with pytest.raises(UserError, match="no device 'tpu'"):
        Predictor(tiny_model(), InferenceConfig(device="tpu"))


def test_memory_does_not_grow_with_the_classes(monkeypatch):
    """The largest tensor of labelling is bounded by the chunk size, for 12 as for 3000 classes."""
    from stunet.inference import head

    monkeypatch.setattr(head, "CHUNK_BYTES", 2**16)
    largest = []
    plain = head.LinearHead.logits

    def logits(self, *given):
        answer = plain(self, *given)
        largest.append(answer.untyped_storage().nbytes())
        return answer

    monkeypatch.setattr(head.LinearHead, "logits", logits)
    model = tiny_model(num_classes=3000)
    assert build(network_spec("tiny", 1, 3000, strides=STRIDES)).spec == model.networks[0].spec
    Predictor(model, EXACT).predict(scan((9, 18, 20)))
    assert max(largest) <= 2**16


def test_mirroring_is_refused_where_the_model_never_saw_a_mirrored_image():
    model = tiny_model()
    model = replace(model, card=replace(model.card, mirror_axes=()))
    with pytest.raises(UserError, match="not trained with mirrored images"):
        Predictor(model, InferenceConfig(mirror=True))


def test_some_classes_only():
    model, volume = tiny_model(), scan()
    everything = Predictor(model, EXACT).predict(volume)
    present = [name for name, mm3 in everything.volumes_mm3().items() if mm3]
    chosen = (present[1], present[0])
    segmentation = Predictor(model, replace(EXACT, classes=chosen)).predict(volume)
    labels = [label for label, name in model.names.items() if name in chosen]
    assert np.array_equal(segmentation.labels, np.where(np.isin(everything.labels, labels), everything.labels, 0))
    assert segmentation.names == {0: "background", **{label: model.names[label] for label in labels}}
    assert segmentation.volumes_mm3() == {name: everything.volumes_mm3()[name] for name in sorted(chosen)}


def test_regions_are_predicted_alone_or_together():
    """A model with outputs for two regions, the second written over the first."""
    model = tiny_model(num_classes=2)
    regions = (Region(1, (1, 2)), Region(2, (2,)))
    model = replace(model, card=replace(model.card, labels=("whole", "back"), regions=regions))
    volume = scan()
    both = Predictor(model, EXACT).predict(volume)
    whole, back = (Predictor(model, replace(EXACT, classes=(name,))).predict(volume) for name in ("whole", "back"))
    assert both.names == {0: "background", 1: "whole", 2: "back"}
    assert set(np.unique(both.labels)) == {0, 1, 2}
    assert np.array_equal(back.labels, np.where(both.labels == 2, 2, 0))
    assert set(np.unique(whole.labels)) == {0, 1}
    assert np.array_equal(whole.labels == 1, np.where(whole.labels == 1, True, both.labels == 1))
    assert (both.members, whole.members) == ({1: (1, 2), 2: (2,)}, {1: (1,)})


def test_a_class_that_the_model_does_not_have():
    with pytest.raises(UserError, match=r"no structure 'clas_1'\. Did you mean 'class_1'\?"):
        Predictor(tiny_model(), replace(EXACT, classes=("class_2", "clas_1")))


def test_a_coarser_grid():
    model = tiny_model()
    coarse = Predictor(model, replace(EXACT, least_spacing=2.0))
    assert coarse.plan == replace(model.plan, spacing=(2.0, 2.0, 2.0))
    assert Predictor(model, replace(EXACT, least_spacing=0.5)).plan == model.plan
    assert_predicts_as_plain(scan(), replace(model, card=replace(model.card, preprocessing=coarse.plan)))
    assert np.array_equal(
        coarse.predict(scan()).labels,
        Predictor(replace(model, card=replace(model.card, preprocessing=coarse.plan)), EXACT).predict(scan()).labels,
    )


def _is_openvino_2026_4():
    return version("openvino").startswith("2026.4.")


def test_the_fastest_backend_is_chosen():
    predictor = Predictor(tiny_model(), InferenceConfig(device="cpu"))
    assert predictor.backend.name == ("openvino" if find_spec("openvino") and find_spec("onnx") else "torch")
    fast = predictor.backend.name == "openvino" and cpu_computes_bfloat16() and _is_openvino_2026_4()
    assert predictor.backend.precision == ("bfloat16" if fast else "float32")


def test_the_precision_suits_backend_and_device(monkeypatch):
    cpu = torch.device("cpu")
    assert default_precision("torch", torch.device("cuda")) == "float16"
    for has_bfloat16, by_openvino in ((True, "bfloat16"), (False, "float32")):
        monkeypatch.setattr(precision, "cpu_computes_bfloat16", lambda answer=has_bfloat16: answer)
        assert default_precision("openvino", cpu) == by_openvino
        assert default_precision("torch", cpu) == default_precision("onnx", cpu) == "float32"


def ct_model():
    model = tiny_model()
    return replace(model, card=replace(model.card, channels=("CT",)))


def test_air_is_background_and_fewer_windows_are_needed():
    array = np.full((1, 4, 60, 70), -1000, dtype=np.int16)
    array[0, :, 20:40, 15:45] = np.random.default_rng(0).integers(-100, 200, (4, 20, 30))
    volume, model = Volume(array, np.diag([3.0, 3.0, 3.0, 1.0])), ct_model()
    windows = {}
    for skip_air in (False, True):
        seen: list[tuple[int, int]] = []
        predictor = Predictor(model, replace(EXACT, step=1.0, skip_air=skip_air))
        labels = predictor.predict(volume, lambda *numbers, seen=seen: seen.append(numbers)).labels
        windows[skip_air] = seen[-1][1]
    (_, rows, columns) = body_box(array, (3.0, 3.0, 3.0))
    assert windows[True] < windows[False]
    inside = np.zeros(labels.shape, dtype=bool)
    inside[:, slice(*rows), slice(*columns)] = True
    assert not labels[~inside].any() and labels[inside].any()


def test_air_is_told_from_the_body_in_ct_only():
    model = ct_model()
    with pytest.raises(UserError, match=r"Air can only be found in a CT's Hounsfield units, but model .* is for MR"):
        Predictor(replace(model, card=replace(model.card, channels=("MR",))), replace(EXACT, skip_air=True))


@pytest.mark.parametrize("channels", [1, 2])
def test_images_in_memory_are_predicted_as_their_files(tmp_path, channels):
    predictor, volume = Predictor(tiny_model(input_channels=channels), EXACT), scan(channels=channels)
    paths = [tmp_path / f"{channel}.nii.gz" for channel in range(channels)]
    for path, array in zip(paths, volume.array, strict=True):
        nibabel.Nifti1Image(array.T, volume.affine).to_filename(path)
    expected = predictor.predict(paths)
    in_nibabel, in_sitk = [nibabel.load(path) for path in paths], [SimpleITK.ReadImage(str(path)) for path in paths]
    arrays = [Volume.from_array(array, volume.affine) for array in volume.array]
    for images in (in_nibabel, in_sitk, arrays, [paths[0], *in_sitk[1:]]):
        given = images if channels == 2 else images[0]
        assert np.array_equal(predictor.predict(given).labels, expected.labels)
    labels = predictor.predict(in_sitk).to_sitk()
    assert np.array_equal(SimpleITK.GetArrayFromImage(labels), expected.labels)
    SimpleITK.Mask(in_sitk[0], labels)  # refuses images on different grids
    assert np.array_equal(np.asarray(expected.to_nibabel().dataobj).T, expected.labels)
    assert np.allclose(expected.to_nibabel().affine, volume.affine)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_voxels_that_are_no_numbers_are_refused_from_memory_too(bad):
    array = scan(dtype=np.float32).array.copy()
    array[0, 2, 3, 4] = bad
    with pytest.raises(UserError, match=r"the array: 1 of 6760 voxels are not finite.*\[4, 3, 2\]"):
        Predictor(tiny_model(), EXACT).predict(Volume.from_array(array, np.eye(4)))


def test_an_array_is_no_scan():
    with pytest.raises(UserError, match=r"Volume\.from_array"):
        Predictor(tiny_model(), EXACT).predict(scan().array)


@pytest.mark.parametrize("stage", ["weights", "labels"])
def test_a_gpu_that_is_full_outside_the_windows(monkeypatch, stage):
    def fill(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    model, volume = tiny_model(), scan()
    name = "_precision_choice" if stage == "weights" else "_labels"
    monkeypatch.setattr(Predictor, name, fill)
    with pytest.raises(NotEnoughMemoryError, match="Not enough memory on cpu for this model and scan"):
        Predictor(model, EXACT).predict(volume)
