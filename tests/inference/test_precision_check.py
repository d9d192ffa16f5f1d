"""Which precision `auto` means for a model is decided by its labels in float32."""

import json
import logging
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy import ndimage

from stunet.batch.prediction_record import run_record
from stunet.errors import OutputError
from stunet.evaluation.dice import dice_per_label
from stunet.imaging.formats.registry import read_volume
from stunet.imaging.volume import Volume
from stunet.inference import precision_check
from stunet.inference import predictor as predictor_module
from stunet.inference.backends import precision as precision_module
from stunet.inference.config import InferenceConfig
from stunet.inference.head import LinearHead
from stunet.inference.precision_check import MOST_WINDOWS, PrecisionChoice, central_windows, compare
from stunet.inference.predictor import Predictor
from tests.inference.samples import WINDOW, WholeImage, tiny_model, tiny_network

AUTO = InferenceConfig(backend="torch", device="cpu")
NAMES = {0: "background", 1: "one", 2: "two", 3: "three"}


class NearestNumber:
    """A backend that labels a voxel with its intensity, rounded; wrong by `shift` voxels along the last axis."""

    name, device, allocates_by_torch = "torch", torch.device("cpu"), True

    def __init__(self, precision: str, shift: int = 0):
        self.precision, self._shift = precision, shift
        numbers = torch.arange(len(NAMES)).float()
        self.head = LinearHead(torch.stack([numbers, torch.ones(len(NAMES))], dim=1), -(numbers**2) / 2)

    def run(self, windows_BCZYX: torch.Tensor) -> torch.Tensor:
        """The intensity, and 0."""
        shifted_BZYX = windows_BCZYX[:, 0].roll(self._shift, dims=-1)
        return torch.stack([shifted_BZYX, torch.zeros_like(shifted_BZYX)], dim=-1)


def balls(shape=(8, 16, 40)) -> WholeImage:
    """Blobs of 0, 1, 2 and 3."""
    noise = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal(shape), 3)
    edges = np.quantile(noise, [0.4, 0.7, 0.9])
    return WholeImage(torch.from_numpy(np.digitize(noise, edges)[None].astype(np.float32)))


def test_the_dsc_is_that_of_the_window():
    image = balls()
    dice, windows = compare(image, NearestNumber("bfloat16", shift=1), NearestNumber("float32"), WINDOW, NAMES)
    (window_BCZYX,) = central_windows(image, WINDOW)
    labels = window_BCZYX[0, 0].numpy().astype(int)
    expected = dice_per_label(np.roll(labels, 1, axis=-1), labels, [1, 2, 3])
    assert windows == 1
    assert dice == pytest.approx({NAMES[label]: dsc for label, dsc in expected.items()}, abs=1e-12)
    assert min(dice.values()) < 0.99


def test_small_structures_are_not_compared():
    image = balls()
    image.array[image.array == 3] = 2
    image.array[0, 4, 8, 15:25] = 3
    dice, _ = compare(image, NearestNumber("bfloat16", shift=1), NearestNumber("float32"), WINDOW, NAMES)
    assert set(dice) == {"one", "two"}


@pytest.mark.parametrize(
    ("shape", "starts"),
    [
        ((5, 9, 7), [None]),
        ((8, 16, 16), [0]),
        ((9, 40, 21), [0, 1]),
        ((100, 16, 40), [0, 30, 61, 92]),
    ],
    ids=str,
)
def test_windows_run_along_the_middle(shape, starts):
    numbers = torch.arange(np.prod(shape)).float().reshape(1, *shape) + 1
    windows = list(central_windows(WholeImage(numbers), WINDOW))
    assert len(windows) == len(starts) <= MOST_WINDOWS
    for window, start in zip(windows, starts, strict=True):
        assert window.shape == (1, 1, *WINDOW)
        if start is None:
            assert torch.equal(window[0, 0, 1:6, 3:12, 4:11], numbers[0])
            assert window.count_nonzero() == np.prod(shape)
        else:
            y, x = (shape[1] - WINDOW[1]) // 2, (shape[2] - WINDOW[2]) // 2
            expected = numbers[:, start : start + WINDOW[0], y : y + WINDOW[1], x : x + WINDOW[2]]
            assert torch.equal(window[0], expected)


# The choice


class Makes:
    """Creates backends, and remembers their precisions."""

    def __init__(self, shift: int = 0, error: Exception | None = None):
        self.made: list[str] = []
        self._shift, self._error = shift, error

    def __call__(self, precision: str) -> NearestNumber:
        """A backend that is wrong unless in float32."""
        self.made.append(precision)
        if precision == "float32" and self._error is not None:
            raise self._error
        return NearestNumber(precision, 0 if precision == "float32" else self._shift)


def choice(makes: Makes, seed: int = 0, precision="bfloat16", is_auto: bool = True) -> PrecisionChoice:
    return PrecisionChoice([tiny_network(seed=seed)], makes, precision, WINDOW, is_auto)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """Nothing is known yet."""
    monkeypatch.setenv("STUNET_HOME", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize(("shift", "chosen"), [(0, "bfloat16"), (1, "float32")])
def test_the_first_scan_decides_and_the_result_is_kept(shift, chosen):
    first, later, of_another = Makes(shift), Makes(shift), Makes(shift)
    decided = choice(first)
    assert decided.is_open
    assert decided.backend.precision == "bfloat16"
    assert decided.settled(balls(), NAMES) is decided.backend
    assert decided.backend.precision == decided.check.chosen == chosen
    assert not decided.is_open
    assert first.made == ["bfloat16", "float32"]
    again = choice(later)
    assert again.check == decided.check
    assert again.settled(balls(), NAMES).precision == chosen
    assert later.made == [chosen]
    assert choice(of_another, seed=1).is_open


def test_without_a_structure_the_next_scan_decides():
    makes = Makes()
    empty = WholeImage(torch.zeros(1, 8, 16, 40))
    undecided = choice(makes)
    assert undecided.settled(empty, NAMES).precision == "float32"
    assert undecided.is_open
    assert choice(Makes()).is_open
    assert undecided.settled(balls(), NAMES).precision == "bfloat16"


@pytest.mark.parametrize(("precision", "is_auto"), [("float32", True), ("bfloat16", False)])
def test_without_a_choice_nothing_is_compared(precision, is_auto, home):
    makes = Makes(shift=1)
    given = choice(makes, precision=precision, is_auto=is_auto)
    assert given.settled(balls(), NAMES).precision == precision
    assert makes.made == [precision]
    assert not list(home.rglob("*.json"))


def test_a_damaged_record_is_made_again(home):
    choice(Makes()).settled(balls(), NAMES)
    (record,) = home.rglob("*.json")
    whole = json.loads(record.read_text())
    changes = ({"dice": 3}, {"dice": {}}, {"dice": {"one": "1"}}, {"dice": {"one": 7}}, {"precision": "int4"})
    for damaged in ("", "[]", '{"dice": 3}', *(json.dumps(whole | change) for change in changes)):
        record.write_text(damaged)
        again = choice(Makes())
        assert again.is_open
        again.settled(balls(), NAMES)
        assert json.loads(record.read_text())["dice"] == {"one": 1.0, "two": 1.0, "three": 1.0}


def test_a_full_disk_only_costs_the_record(monkeypatch, caplog):
    def fail(path, content):
        raise OutputError(f"{path}: cannot be written (No space left on device).")

    monkeypatch.setattr(precision_check, "write_json", fail)
    decided = choice(Makes())
    assert decided.settled(balls(), NAMES).precision == "bfloat16"
    assert "No space left on device). The next start compares the precisions again." in caplog.text
    assert choice(Makes()).is_open


def test_without_memory_for_both_it_is_said(caplog):
    makes = Makes(error=torch.OutOfMemoryError("CUDA out of memory."))
    unchecked = choice(makes)
    assert unchecked.settled(balls(), NAMES).precision == "bfloat16"
    assert "bfloat16 was not compared with float32: memory does not suffice." in caplog.text
    assert unchecked.settled(balls(), NAMES).precision == "bfloat16"
    assert makes.made == ["bfloat16", "float32"]


# The whole prediction


def scan() -> Volume:
    array = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((1, 13, 20, 26)), (0, 1, 1, 1)) * 1000
    return Volume(array.astype(np.int16), np.diag([-1.0, 1.0, 1.0, 1.0]))


@pytest.fixture
def half_is_fastest(monkeypatch):
    """As on a GPU, but in bfloat16, which torch computes on any CPU."""
    monkeypatch.setattr(predictor_module, "default_precision", lambda backend, device: "bfloat16")


def test_random_weights_are_labelled_in_float32(half_is_fastest, caplog):
    """Their logits are near ties, so that rounding decides."""
    model = tiny_model()
    predictor = Predictor(model, AUTO)
    assert predictor.precision_is_open
    labels = predictor.predict(scan()).labels
    expected = Predictor(model, replace(AUTO, precision="float32")).predict(scan()).labels
    assert np.array_equal(labels, expected)
    assert "float32 is used for this model, because bfloat16 changes its labels" in caplog.text
    record = run_record(predictor)["backend"]
    assert record["precision"] == "float32"
    assert record["precision_check"]["precision"] == "bfloat16"
    assert min(record["precision_check"]["dice"].values()) < 0.995


def test_a_scan_without_a_structure_is_labelled_in_float32_with_a_warning(half_is_fastest):
    model = tiny_model(num_classes=2)
    for network in model.networks:
        torch.nn.init.zeros_(network.head.weight)
        network.head.bias.data = torch.tensor([1.0, 0.0])
    predictor = Predictor(model, AUTO)
    assert any("ran in float32. bfloat16 is faster, but" in sentence for sentence in predictor.predict(scan()).warnings)
    assert predictor.precision_is_open


def test_a_trained_model_is_judged_as_by_all_of_its_labels(half_is_fastest, caplog, shared_data):
    """On one window, and on the whole scan: the same answer for the bundled model."""
    caplog.set_level(logging.INFO, logger="stunet")
    file = sorted((shared_data / "Dataset004_Hippocampus" / "imagesTr").glob("*.nii.gz"))[0]
    volume = read_volume(file)
    predictor = Predictor("hippocampus", AUTO)
    labels = predictor.predict(volume).labels
    exact, coarse = (
        Predictor("hippocampus", replace(AUTO, precision=precision)).predict(volume).labels
        for precision in ("float32", "bfloat16")
    )
    of_scan = dice_per_label(coarse, exact, [1, 2])
    check = predictor.precision_check
    assert check.is_passed == (min(of_scan.values()) >= 0.995)
    assert np.array_equal(labels, coarse if check.is_passed else exact)
    assert sorted(check.dice.values()) == pytest.approx(sorted(of_scan.values()), abs=0.003)
    assert f"{check.chosen} is used for this model" in caplog.text


@pytest.mark.skipif(find_spec("openvino") is None, reason="OpenVINO is not installed")
@pytest.mark.skipif(not precision_module.cpu_computes_bfloat16(), reason="this CPU has no bfloat16")
def test_with_openvino():
    model = tiny_model()
    config = replace(AUTO, backend="openvino")
    predictor = Predictor(model, config)
    labels = predictor.predict(scan()).labels
    chosen = predictor.precision_check.chosen
    assert np.array_equal(labels, Predictor(model, replace(config, precision=chosen)).predict(scan()).labels)
    assert Predictor(model, config).precision_check == predictor.precision_check
