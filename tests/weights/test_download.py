"""Downloads from a local server as the Hub: resumed, checked, imported."""

import hashlib
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from stunet.errors import UserError
from stunet.networks.registry import size_of
from stunet.weights import download as download_module
from stunet.weights.catalogue import CATALOGUE, models_folder
from stunet.weights.model_file import read_model
from stunet.weights.model_store import get_model, remove_model
from stunet.weights.published import PUBLISHED_PLAN
from tests.weights.loopback_hub import COMMIT, FILE, REPOSITORY, LoopbackHub, entry, files_in


def test_a_model_is_downloaded_once_and_imported(hub):
    path = get_model("small")
    assert path == models_folder() / "small.safetensors"
    state_dict, read = read_model(path)
    assert len(state_dict) == 130
    assert read.preprocessing == PUBLISHED_PLAN
    assert (read.name, read.licence) == ("small", "Apache-2.0")
    assert read.source == f"{hub.endpoint}/{REPOSITORY}/resolve/{COMMIT}/{FILE}"
    assert get_model("small") == path
    assert hub.ranges == [0]
    assert files_in(path.parent) == ["small.json", "small.safetensors"]


def test_a_broken_connection_is_taken_up_again(hub):
    hub.break_after, hub.breaks = 12 * 2**20, 1
    get_model("small")
    assert hub.ranges[0] == 0
    assert len(hub.ranges) == 2


def test_a_killed_download_goes_on_where_it_stopped(hub, published_bytes):
    hub.stall_after = 15 * 2**20
    script = (
        "from stunet.weights.catalogue import CATALOGUE, CatalogueEntry;"
        "from stunet.weights.model_store import get_model;"
        f"CATALOGUE['small'] = CatalogueEntry('small', 'small', 'CT', '', '', {REPOSITORY!r}, {FILE!r},"
        f" {len(published_bytes)}); get_model('small')"
    )
    source = Path(download_module.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(source)},
        stderr=subprocess.PIPE,
    )
    wait_for_bytes(models_folder())
    process.kill()
    process.communicate()
    (partial,) = models_folder().glob("*.download")
    done = partial.stat().st_size
    hub.stall_after = None
    path = get_model("small")
    assert hub.ranges == [0, done]
    assert size_of(read_model(path)[1].network) == "small"


def wait_for_bytes(folder, seconds=60):
    """Wait until part of a download is in `folder`; the rest of a block may not be written yet."""
    for _ in range(10 * seconds):
        sizes = [path.stat().st_size for path in folder.glob("*.download")] if folder.exists() else []
        if sizes and sizes[0] > 0:
            return
        time.sleep(0.1)
    raise AssertionError("nothing was downloaded")


def test_what_is_left_of_another_version_is_not_continued(hub):
    models_folder().mkdir(parents=True)
    stale = models_folder() / "small.0123.download"
    stale.write_bytes(b"x" * 100)
    get_model("small")
    assert hub.ranges == [0]
    assert not stale.exists()


def test_a_damaged_download_is_deleted(hub, monkeypatch):
    models_folder().mkdir(parents=True)
    original = download_module._download

    def damage(row, remote, download):
        original(row, remote, download)
        with download.open("r+b") as file:
            file.write(b"damaged")

    monkeypatch.setattr(download_module, "_download", damage)
    with pytest.raises(UserError, match="damaged in transfer"):
        get_model("small")
    assert not files_in(models_folder())


def test_a_wrong_size_is_refused_before_it_is_downloaded(hub, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "small", entry(2 * len(hub.content)))
    with pytest.raises(UserError, match=r"small_ep4k.model of someone/STU-Net has [\d,]+ bytes instead of about"):
        get_model("small")
    assert hub.ranges == []


def test_a_disk_that_is_too_small_is_noticed_first(hub, monkeypatch):
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="free some space"):
        get_model("small")
    assert hub.ranges == []


def test_a_file_is_downloaded_at_the_revision_in_the_catalogue(hub, monkeypatch):
    known = replace(entry(len(hub.content)), revision=COMMIT, sha256=hashlib.sha256(hub.content).hexdigest())
    monkeypatch.setitem(CATALOGUE, "small", known)
    assert get_model("small").exists()
    monkeypatch.setitem(CATALOGUE, "small", replace(known, revision="f" * 40))
    remove_model("small")
    with pytest.raises(UserError, match="could not be downloaded"):
        get_model("small")


def test_a_file_that_the_server_lacks(hub):
    hub.file = "another.model"
    with pytest.raises(UserError, match=r"'small' could not be downloaded: .*HF_ENDPOINT.*stunet weights import"):
        get_model("small")


def test_no_connection(tmp_path, monkeypatch):
    monkeypatch.setenv("STUNET_HOME", str(tmp_path))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # the discard port, where nothing listens
    with pytest.raises(UserError, match="'base' could not be downloaded"):
        get_model("base")
    assert not files_in(models_folder())


def test_a_server_that_is_no_hub(hub, monkeypatch):
    monkeypatch.setattr(LoopbackHub, "resolve_headers", lambda self: {"Location": f"{self.endpoint}/storage"})
    with pytest.raises(UserError, match="could not be downloaded"):
        get_model("small")
