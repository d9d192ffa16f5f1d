"""Fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER_COUNT" in os.environ:  # several test processes share the processors
    share = (os.cpu_count() or 1) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, share)))  # before torch is imported, which reads it once
import torch

os.environ.setdefault("nnUNet_def_n_proc", "2")  # nnU-Net reads it once, when it is first imported

REPOSITORY = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test images; tests that need it are skipped if it is absent."""
    shared = Path(os.environ.get("STUNET_SHARED", REPOSITORY.parent / "shared"))
    if not (shared / "data").is_dir():
        pytest.skip(f"no test images under {shared / 'data'} (set STUNET_SHARED)")
    return shared / "data"


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep compiled code and downloads of tests out of the developer's own folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUNET_HOME", str(tmp_path_factory.mktemp("stunet_home")))
        yield


@pytest.fixture(autouse=True)
def nnunets_variables_are_put_back() -> Iterator[None]:
    """Restore nnU-Net's variables, which training commands set for the whole process."""
    before = {name: value for name, value in os.environ.items() if name.startswith("nnUNet_")}
    yield
    for name in [name for name in os.environ if name.startswith("nnUNet_")]:
        del os.environ[name]
    os.environ.update(before)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny networks run faster on one thread, especially on a busy machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
