import pytest
import torch

from stunet.inference import onnx_graph
from stunet.inference.onnx_translation import build_graph
from stunet.networks.fuse import fuse
from tests.inference.samples import WINDOW, tiny_network
from tests.inference.test_onnx_translation import OPEN, assert_same, run

onnx = pytest.importorskip("onnx")


@torch.no_grad()
def test_weights_too_large_for_one_file_get_their_own(tmp_path, monkeypatch):
    network, image = fuse(tiny_network()), torch.randn(1, 1, *WINDOW)
    graph = build_graph(network, OPEN, "features", ("batch", 8, "Z", "Y", "X"))
    assert graph.save(tmp_path / "one.onnx") == [tmp_path / "one.onnx"]
    monkeypatch.setattr(onnx_graph, "LARGEST_FILE", 0)
    files = graph.save(tmp_path / "two.onnx")
    assert [file.name for file in files] == ["two.onnx", "two.onnx.data"]
    assert files[1].stat().st_size == sum(tensor.nbytes for tensor in graph.weights.values())
    onnx.checker.check_model(files[0])
    for name in ("one.onnx", "two.onnx"):
        assert_same(run(tmp_path / name, image), network(image))
