"""A forked process explains why it cannot predict; a spawned one predicts."""

import multiprocessing
import subprocess
import sys

import numpy as np
import pytest

from stunet.imaging.volume import Volume
from stunet.inference.predictor import InferenceConfig, Predictor
from stunet.inference.segmentation import Segmentation
from tests.inference.samples import EXACT, tiny_model

needs_fork = pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")

FORKED = """
import os, sys
import numpy as np
import stunet
from stunet.weights.model import load_model
scan = stunet.Volume.from_array(np.zeros((8, 8, 8)), np.eye(4))
config = stunet.InferenceConfig(backend=sys.argv[1])
predictor = stunet.Predictor("hippocampus", config)
if sys.argv[2] == "used":
    predictor.predict(scan)
attempts = {
    "old": lambda: predictor.predict(scan),
    "new": lambda: stunet.Predictor("hippocampus", config),
    "model": lambda: load_model("hippocampus"),
}
for name, attempt in attempts.items():
    process = os.fork()
    if process == 0:
        try:
            attempt()
            os._exit(1)
        except stunet.UserError as error:
            said = f"Process {os.getpid()} was forked" in str(error) and 'get_context("spawn")' in str(error)
            os._exit(7 if said else 2)
    print(name, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@needs_fork
@pytest.mark.parametrize(
    ("backend", "state"), [("torch", "loaded"), ("torch", "used"), ("openvino", "used"), ("onnx", "used")]
)
def test_a_forked_process_is_refused(backend, state):
    pytest.importorskip({"torch": "torch", "openvino": "openvino", "onnx": "onnxruntime"}[backend])
    command = [sys.executable, "-c", FORKED, backend, state]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.splitlines() == ["old 7", "new 7", "model 7"], done.stderr


IMPORTED_ONLY = """
import os
import numpy as np
from stunet import Predictor, Volume
process = os.fork()
if process == 0:
    scan = Volume.from_array(np.zeros((8, 8, 8)), np.eye(4))
    os._exit(7 if Predictor("hippocampus").predict(scan).labels.shape == (8, 8, 8) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))
"""


@needs_fork
def test_a_model_that_is_loaded_after_the_fork_predicts():
    done = subprocess.run([sys.executable, "-c", IMPORTED_ONLY], capture_output=True, text=True, timeout=120)
    assert done.stdout == "7\n", done.stderr


def _labels(predictor: Predictor, scan: Volume) -> np.ndarray:
    return predictor.predict(scan).labels


def test_a_predictor_travels_to_a_spawned_process():
    scan = Volume.from_array(np.random.default_rng(0).normal(size=(9, 18, 20)), np.eye(4))
    predictor = Predictor(tiny_model(), InferenceConfig(backend="torch", precision="float32", step=0.7))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        there = pool.apply(_labels, (predictor, scan))
    assert np.array_equal(there, predictor.predict(scan).labels)
    assert len(np.unique(there)) > 2


def test_a_segmentation_can_be_pickled():
    import pickle

    scan = Volume.from_array(np.random.default_rng(0).normal(size=(9, 18, 20)), np.eye(4))
    segmentation = Predictor(tiny_model(), EXACT).predict(scan)
    again = pickle.loads(pickle.dumps(segmentation))
    assert isinstance(again, Segmentation) and np.array_equal(again.labels, segmentation.labels)
