import numpy as np
import pytest
import torch
from torch import nn

from stunet.inference.onnx_translation import build_graph
from stunet.networks.fuse import fuse
from stunet.networks.registry import build, network_spec
from tests.inference.samples import STRIDES, WINDOW

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

OPEN = ("batch", 1, "Z", "Y", "X")


def run(model, image):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": image.numpy()})[0]


def assert_same(found, expected):
    assert found.shape == expected.shape
    assert np.abs(found - expected.numpy()).max() <= 1e-4 * float(expected.std())


@torch.no_grad()
@pytest.mark.parametrize("upsampling", ["nearest", "trilinear", "transposed"])
@pytest.mark.parametrize("downsampling", ["residual", "convolution"])
def test_every_kind_of_network(downsampling, upsampling):
    torch.manual_seed(0)
    options = {"strides": STRIDES, "downsampling": downsampling, "upsampling": upsampling}
    network = build(network_spec("tiny", 1, 3, **options)).eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0.1, 0.2)  # biases and norms with an effect
    image = torch.randn(2, 1, *WINDOW)
    model = build_graph(fuse(network), OPEN, "features", ("batch", 8, "Z", "Y", "X")).model()
    onnx.checker.check_model(model, full_check=True)
    assert_same(run(model.SerializeToString(), image), network.forward_features(image))


def run_openvino(model, image):
    core = pytest.importorskip("openvino").Core()
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(model), "CPU", options)({"image": image.numpy()})[0]


@torch.no_grad()
@pytest.mark.parametrize("run", [run, run_openvino])
def test_instance_norm_of_a_large_map_is_exact(run):
    convolution = nn.Conv3d(1, 16, 1)  # afterwards OpenVINO uses channels last
    nn.init.ones_(convolution.weight)
    nn.init.ones_(convolution.bias)
    image = 0.5 * torch.randn(1, 1, 96, 96, 96)
    expected = nn.functional.instance_norm(convolution.double()(image.double()))
    module = nn.Sequential(convolution.float(), nn.InstanceNorm3d(16, affine=True))
    found = run(build_graph(module, OPEN, "normed", ("batch", 16, "Z", "Y", "X")).model().SerializeToString(), image)
    assert np.abs(found - expected.numpy()).max() <= 1e-5


def test_what_cannot_be_translated_is_named():
    with pytest.raises(ValueError, match="sigmoid"):
        build_graph(nn.Sequential(nn.Conv3d(1, 1, 1), nn.Sigmoid()), OPEN, "y", OPEN)
