"""Batches on a Ray cluster of two nodes on this machine."""

import os
import shutil
import signal
import threading
from pathlib import Path
from threading import Event

import pytest

from stunet.batch.cluster import ClusterWorkers, work_on_cluster
from stunet.batch.member import WorkerOptions
from stunet.batch.outputs import Outputs
from stunet.batch.request import request_for
from stunet.batch.segmenter import OnThisMachine
from stunet.batch.start import start_batch
from stunet.batch.status import BatchReader
from stunet.cli.main import run
from stunet.errors import Stopped, UserError
from stunet.inference.predictor import Predictor
from stunet.weights.model import load_model
from tests.batch.batches import settings, write_scans
from tests.inference.samples import EXACT

ray = pytest.importorskip("ray")
cluster_utils = pytest.importorskip("ray.cluster_utils")


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes with two processors each; the first one has the driver."""
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    made = cluster_utils.Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
    made.second = made.add_node(num_cpus=2)
    yield made
    ray.shutdown()
    made.shutdown()


def workers(cluster, count):
    return ClusterWorkers(cluster.address, count, WorkerOptions(1))


def states(batch):
    return {record.scan.name: record.state.state for record in BatchReader(batch).records()}


def test_a_lost_node_costs_no_scan(tmp_path, cluster, model):
    names = [f"scan{number:02d}" for number in range(30)]
    scans = write_scans(tmp_path / "scans", names)
    (scans / "bad.nii.gz").write_bytes(b"no scan")
    batch = start_batch([str(scans)], tmp_path / "out", settings(model)).folder
    lost = []

    def lose_a_node(status):
        if not lost and status.states["done"] >= 3:
            lost.append(status.states["done"])
            cluster.remove_node(cluster.second, allow_graceful=False)

    said = []
    work_on_cluster(batch, workers(cluster, 3), lose_a_node, said.append)
    assert lost and lost[0] < 30, "no node was lost, so nothing is shown"
    assert states(batch) == {**dict.fromkeys(names, "done"), "bad": "failed"}
    events = [event["event"] for record in BatchReader(batch).records() for event in record.history]
    assert (events.count("done"), events.count("failed")) == (30, 1)
    assert all("Another takes its place" in sentence for sentence in said)
    request_for(scans, tmp_path / "plain", Outputs()).predict(
        OnThisMachine(lambda: Predictor(load_model(model), EXACT))
    )
    for name in names:
        labels = (tmp_path / "out" / f"{name}.nii.gz").read_bytes()
        assert labels == (tmp_path / "plain" / f"{name}.nii.gz").read_bytes()


def test_a_signal_gives_scans_back(tmp_path, cluster, model):
    names = [f"scan{number:02d}" for number in range(40)]
    batch = start_batch([str(write_scans(tmp_path / "scans", names))], tmp_path / "out", settings(model)).folder

    def signal_while_working():
        while "working" not in states(batch).values():
            Event().wait(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    signalling = threading.Thread(target=signal_while_working)
    signalling.start()
    with pytest.raises(Stopped, match="Run the same command to go on") as stopped:
        work_on_cluster(batch, workers(cluster, 2))
    signalling.join()
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert "working" not in states(batch).values()


def test_a_worker_that_refuses_ends_the_batch(tmp_path, cluster, model):
    own = Path(shutil.copy(model, tmp_path))
    batch = start_batch([str(write_scans(tmp_path / "scans", ["a"]))], tmp_path / "out", settings(own)).folder
    own.unlink()
    with pytest.raises(UserError, match=r"tiny\.safetensors"):
        work_on_cluster(batch, workers(cluster, 1))
    assert states(batch) == {"a": "waiting"}


def test_the_command(tmp_path, cluster, model, capsys):
    scans = write_scans(tmp_path / "scans", ["a", "b"])
    options = ["-m", str(model), "--workers", "2", "--threads", "1", "--cluster", cluster.address]
    assert run(["batch", str(scans), "-o", str(tmp_path / "out"), *options]) == 0
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["a.nii.gz", "b.nii.gz"]
    assert "2 scans" in capsys.readouterr().err


def test_no_cluster_is_a_sentence(tmp_path, model, capsys):
    scans = write_scans(tmp_path / "scans", ["a"])
    command = ["batch", str(scans), "-o", str(tmp_path / "out"), "-m", str(model), "--cluster", "127.0.0.1:1"]
    assert run(command) == 2
    assert "there is no Ray cluster" in capsys.readouterr().err


def test_a_cluster_without_room_is_a_sentence(tmp_path, cluster, model):
    batch = start_batch([str(write_scans(tmp_path / "scans", ["a"]))], tmp_path / "out", settings(model)).folder
    with pytest.raises(UserError, match=r"no machine has 3 processors for a worker; use fewer --threads\."):
        work_on_cluster(batch, ClusterWorkers(cluster.address, 1, WorkerOptions(3)))
    with pytest.raises(UserError, match=r"no machine has 1 processors and a GPU for a worker; .* or another --device"):
        work_on_cluster(batch, ClusterWorkers(cluster.address, 1, WorkerOptions(1), with_gpu=True))
