import pytest
import torch

from stunet.inference.windows import gaussian_weight, padding_to, window_starts

sliding = pytest.importorskip("nnunetv2.inference.sliding_window_prediction")


@pytest.mark.parametrize("step", [0.5, 0.3, 0.75, 1.0])
def test_starts_are_nnunets(step):
    for image in [*range(64, 300, 7), 64, 65, 128]:
        size, window = (image, image + 13, 200), (64, 40, 56)
        assert window_starts(size, window, step) == sliding.compute_steps_for_sliding_window(size, window, step)


@pytest.mark.parametrize("size", [(128, 128, 128), (40, 56, 40), (7, 16, 33), (1, 8, 8)])
def test_weights_are_those_with_which_nnunet_predicts(size):
    expected = sliding.compute_gaussian(size, sigma_scale=1 / 8, value_scaling_factor=10, device=torch.device("cpu"))
    assert torch.equal(gaussian_weight(size), expected.float())


@pytest.mark.parametrize("size", [(5, 64, 30), (40, 41, 42), (1, 1, 1)])
def test_padding_is_nnunets(size):
    padding = pytest.importorskip("acvl_utils.cropping_and_padding.padding")
    window = (8, 40, 41)
    _, inside = padding.pad_nd_image(torch.zeros(1, *size), window, "constant", {"value": 0}, True, None)
    ours = padding_to(size, window)
    for (before, after), place, n, w in zip(ours, inside[1:], size, window, strict=True):
        assert (before, before + n) == (place.start, place.stop)
        assert before + n + after == max(n, w)


def test_impossible_requests():
    with pytest.raises(ValueError, match="step"):
        window_starts([10], [5], 0)
    with pytest.raises(ValueError, match="smaller"):
        window_starts([4], [5])
