"""The compiled network gives the same results; tested with the C++ compiler on the CPU."""

import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from stunet.errors import UserError
from stunet.imaging.volume import Volume
from stunet.inference.backends.compiled_torch_backend import CACHE_VARIABLE, CompiledTorchBackend
from stunet.inference.backends.registry import BACKENDS, COMPILED, backend_maker
from stunet.inference.backends.torch_backend import TorchBackend
from stunet.inference.mirroring import run_mirrored
from stunet.inference.predictor import InferenceConfig, Predictor
from tests.inference.samples import WINDOW, tiny_model, tiny_network

CPU = torch.device("cpu")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The default folder of compiled code in a new STUNET_HOME."""
    monkeypatch.setenv("STUNET_HOME", str(tmp_path))
    torch.compiler.reset()
    monkeypatch.setenv(CACHE_VARIABLE, "restored afterwards")
    monkeypatch.delenv(CACHE_VARIABLE)
    return tmp_path / "cache" / "inductor"


def counted(what):
    from torch._dynamo.utils import counters

    return counters["stats"]["unique_graphs"] if what == "graphs" else counters["inductor"][f"fxgraph_cache_{what}"]


@pytest.mark.slow
@needs_compiler
def test_equals_eager_and_compiles_once(cache):
    """One graph serves batches of all sizes, mirrored copies, several threads and tensors of any origin."""
    from torch._dynamo.utils import counters

    counters.clear()
    network = tiny_network(40)
    eager, compiled = TorchBackend([network], CPU), CompiledTorchBackend([network], CPU, "float32", WINDOW)
    assert (compiled.name, compiled.precision, compiled.device) == ("torch", "float32", CPU)
    assert os.environ[CACHE_VARIABLE] == str(cache)
    windows = torch.randn(3, 1, *WINDOW)
    for size in (1, 2, 3):
        assert_near(compiled.run(windows[:size]), eager.run(windows[:size]))
    assert_near(run_mirrored(compiled, windows, (0, 2)), run_mirrored(eager, windows, (0, 2)))
    first = compiled.run(windows[:1])
    kept = first.clone()
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(compiled.run, windows.split(1)))
    assert torch.equal(torch.cat(answers), compiled.run(windows))
    assert torch.equal(first, kept)
    assert counted("graphs") == 1 and (counted("miss"), counted("hit")) == (1, 0)

    torch.compiler.reset()
    files = {path for path in cache.rglob("*") if path.is_file()}
    again = CompiledTorchBackend([network], CPU, "float32", WINDOW)
    assert torch.equal(again.run(windows), compiled.run(windows))
    assert files and (counted("miss"), counted("hit")) == (1, 1)

    scan = Volume(np.random.default_rng(0).normal(size=(1, 10, 20, 18)).astype(np.float32), np.eye(4), "scan")
    assert_predictions_agree(scan)


def assert_predictions_agree(scan):
    model = tiny_model(40)
    plain = Predictor(model, InferenceConfig(device="cpu", backend="torch")).predict(scan)
    predictor = Predictor(model, InferenceConfig(device="cpu", compiled=True, batch_size=4))
    assert isinstance(predictor.backend, CompiledTorchBackend)
    assert (predictor.predict(scan).labels == plain.labels).mean() > 0.999


def assert_near(compiled, eager):
    assert compiled.shape == eager.shape and compiled.dtype == torch.float32
    assert (compiled - eager).abs().max() <= 1e-4 * eager.std()


@pytest.mark.slow
def test_a_missing_compiler_is_named(tmp_path):
    code = (
        "from tests.inference.test_compiled_torch_backend import *\n"
        "CompiledTorchBackend([tiny_network()], CPU, 'float32', WINDOW)"
    )
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root / "src"), str(root)])
    environment = os.environ | {"CXX": "no-such-compiler", "STUNET_HOME": str(tmp_path), "PYTHONPATH": path}
    environment.pop(CACHE_VARIABLE, None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode and "UserError: torch cannot compile the network here: " in done.stderr
    assert "g++ on Linux" in done.stderr and "leave --compile out" in done.stderr


def test_the_users_own_cache_stays(cache, tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "own"))
    monkeypatch.setattr(torch, "compile", lambda maps, **_: maps)
    CompiledTorchBackend([tiny_network()], CPU, "float32", WINDOW)
    assert os.environ[CACHE_VARIABLE] == str(tmp_path / "own") and not cache.exists()


@pytest.mark.parametrize("name", sorted(set(BACKENDS) - set(COMPILED)))
def test_other_backends_refuse(name):
    with pytest.raises(UserError, match=f"Backend '{name}' always compiles its network.*--backend torch"):
        Predictor(tiny_model(), InferenceConfig(device="cpu", backend=name, compiled=True))


def test_auto_is_torch():
    assert backend_maker("auto", CPU, compiled=True) == ("torch", CompiledTorchBackend)
