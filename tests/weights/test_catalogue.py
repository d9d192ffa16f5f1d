"""The catalogue with a local server as the Hub: download, resume, checks, cache."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stunet.errors import UserError
from stunet.networks.registry import build, network_spec, size_of
from stunet.networks.stunet import PUBLISHED_STRIDES, SIZES
from stunet.weights import catalogue
from stunet.weights.catalogue import (
    CATALOGUE,
    CatalogueEntry,
    get_model,
    models_folder,
    remove_model,
    sha256_of,
    stored_models,
    verify_model,
)
from stunet.weights.model_file import read_card, read_model, save_model
from stunet.weights.published import PUBLISHED_PLAN
from tests.weights.loopback_hub import COMMIT, LoopbackHub
from tests.weights.samples import card, network, v1_content

REPOSITORY = "someone/STU-Net"
FILE = "small_ep4k.model"


@pytest.fixture(scope="module")
def published_bytes():
    """A published `small` in half precision, 29 MB: more than the 10 MB that huggingface_hub writes at once."""
    torch.manual_seed(0)
    with torch.device("meta"):
        config = network_spec("small", 1, 105, strides=PUBLISHED_STRIDES)
        shapes = {key: tensor.shape for key, tensor in build(config).state_dict().items()}
    buffer = io.BytesIO()
    torch.save(v1_content({key: torch.rand(shape).half() for key, shape in shapes.items()}), buffer)
    return buffer.getvalue()


@pytest.fixture
def hub(published_bytes, tmp_path, monkeypatch):
    monkeypatch.setenv("STUNET_HOME", str(tmp_path / "home"))
    monkeypatch.setitem(CATALOGUE, "small", entry(len(published_bytes)))
    with LoopbackHub(REPOSITORY, FILE, published_bytes).running() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def entry(approximate_bytes):
    return CatalogueEntry("small", "small", "CT", "", "Apache-2.0", REPOSITORY, FILE, approximate_bytes)


def files_in(folder: Path):
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


def test_the_catalogue_is_consistent():
    assert set(CATALOGUE) == {"hippocampus", "small", "base", "large", "huge"}
    for name, row in CATALOGUE.items():
        assert row.name == name
        assert row.size in SIZES
    assert CATALOGUE["base"].file == "base_ep4k.model"
    for name in ("small", "base", "large", "huge"):
        parameters = 1e6 * (SIZES[name].million_parameters or 0)
        assert CATALOGUE[name].approximate_bytes == pytest.approx(8 * parameters, rel=0.01)


def test_the_bundled_file_is_what_the_catalogue_says():
    row = CATALOGUE["hippocampus"]
    try:
        path = get_model("hippocampus")
    except UserError as error:
        pytest.skip(f"the bundled model is absent: {error}")
    read = read_card(path)
    assert path.stat().st_size == pytest.approx(row.approximate_bytes, rel=0.02)
    assert (read.name, size_of(read.network), read.licence) == (row.name, row.size, row.licence)
    assert read.labels == ("background", "Anterior", "Posterior")
    assert read.preprocessing.orientation == "RAS"
    assert read.training["finished"]
    assert read.mirror_axes == () and not read.training["mirror"]


def test_the_bundled_model_reaches_its_bar():
    assert read_card(get_model("hippocampus")).metrics["plain"]["mean"] >= 0.885


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


def test_first_use_is_recorded(hub):
    path = get_model("small")
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["source_sha256"] == hub.etag.strip('"')
    assert record["sha256"] == sha256_of(path)
    assert record["bytes"] == path.stat().st_size


def test_a_broken_connection_is_taken_up_again(hub):
    hub.break_after, hub.breaks = 12 * 2**20, 1
    get_model("small")
    assert hub.ranges[0] == 0
    assert len(hub.ranges) == 2


def test_a_killed_download_goes_on_where_it_stopped(hub, published_bytes):
    hub.stall_after = 15 * 2**20
    script = (
        "from stunet.weights import catalogue as c;"
        f"c.CATALOGUE['small'] = c.CatalogueEntry('small', 'small', 'CT', '', '', {REPOSITORY!r}, {FILE!r},"
        f" {len(published_bytes)}); c.get_model('small')"
    )
    source = Path(catalogue.__file__).parents[2]
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
    original = catalogue._download

    def damage(row, remote, download):
        original(row, remote, download)
        with download.open("r+b") as file:
            file.write(b"damaged")

    monkeypatch.setattr(catalogue, "_download", damage)
    with pytest.raises(UserError, match="damaged in transfer"):
        get_model("small")
    assert not files_in(models_folder())


def test_a_wrong_size_is_refused_before_it_is_downloaded(hub, monkeypatch):
    monkeypatch.setitem(CATALOGUE, "small", entry(2 * len(hub.content)))
    with pytest.raises(UserError, match=r"small_ep4k.model of someone/STU-Net has [\d,]+ bytes instead of about"):
        get_model("small")
    assert hub.ranges == []


def test_a_disk_that_is_too_small_is_noticed_first(hub, monkeypatch):
    monkeypatch.setattr(catalogue.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(UserError, match="free some space"):
        get_model("small")
    assert hub.ranges == []


@pytest.mark.parametrize("sha256_as_etag", [True, False])
def test_a_changed_publication_is_refused(hub, sha256_as_etag):
    hub.sha256_as_etag = sha256_as_etag
    remove_model_after(get_model("small"))
    hub.content = hub.content[:-1] + b"!"
    hub.ranges.clear()
    with pytest.raises(UserError, match="no longer the file that was first downloaded"):
        get_model("small")
    assert hub.ranges == ([] if sha256_as_etag else [0])
    assert files_in(models_folder()) == ["small.json"]


@pytest.mark.parametrize("sha256_as_etag", [True, False])
def test_a_file_that_is_not_the_one_in_the_catalogue_is_refused_before_it_is_imported(hub, monkeypatch, sha256_as_etag):
    hub.sha256_as_etag = sha256_as_etag
    monkeypatch.setitem(CATALOGUE, "small", replace(entry(len(hub.content)), sha256="ab" * 32))
    monkeypatch.setattr("stunet.weights.import_model.import_model", lambda *_: pytest.fail("it was imported"))
    with pytest.raises(UserError, match=r"small_ep4k.model is not the file that this version of stunet knows .*abab"):
        get_model("small")
    assert hub.ranges == ([] if sha256_as_etag else [0])  # the Hub's checksum tells before the download
    assert files_in(models_folder()) == []


def test_a_file_is_downloaded_at_the_revision_in_the_catalogue(hub, monkeypatch):
    known = replace(entry(len(hub.content)), revision=COMMIT, sha256=hashlib.sha256(hub.content).hexdigest())
    monkeypatch.setitem(CATALOGUE, "small", known)
    assert get_model("small").exists()
    monkeypatch.setitem(CATALOGUE, "small", replace(known, revision="f" * 40))
    remove_model("small")
    with pytest.raises(UserError, match="could not be downloaded"):
        get_model("small")


def test_the_bundled_model_is_the_one_in_the_catalogue(monkeypatch):
    assert verify_model("hippocampus").path.name == "hippocampus.safetensors"
    monkeypatch.setitem(CATALOGUE, "hippocampus", replace(CATALOGUE["hippocampus"], sha256="ab" * 32))
    with pytest.raises(UserError, match="is not the file that this version of stunet knows as model 'hippocampus'"):
        verify_model("hippocampus")


def remove_model_after(path):
    assert remove_model("small") == path
    assert not path.exists()


def test_a_removed_model_can_be_fetched_again(hub):
    remove_model_after(get_model("small"))
    assert get_model("small").exists()


def test_a_changed_file_is_refused(hub):
    path = get_model("small")
    with path.open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"tampered")
    for check in (get_model, verify_model):
        with pytest.raises(UserError, match="has changed since its first use"):
            check("small")


def test_verify_reads_all_even_if_the_time_looks_right(hub):
    path = get_model("small")
    assert verify_model("small").sha256 == sha256_of(path)
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-8, 2)
        file.write(b"tampered")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UserError, match="has changed"):
        verify_model("small")


def test_a_file_that_was_only_touched_is_accepted(hub):
    path = get_model("small")
    os.utime(path)
    assert get_model("small") == path


def test_a_model_put_there_by_hand_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setenv("STUNET_HOME", str(tmp_path))
    save_model(models_folder() / "base.safetensors", network().state_dict(), card())
    assert get_model("base").exists()
    assert verify_model("base").sha256 == sha256_of(get_model("base"))


def test_models_on_this_machine_are_listed(hub):
    assert [model.entry.name for model in stored_models() if model.entry.repository] == []
    path = get_model("small")
    (model,) = [model for model in stored_models() if model.entry.repository]
    assert (model.entry.name, model.path, model.bytes) == ("small", path, path.stat().st_size)
    assert model.sha256 == sha256_of(path)


def test_a_damaged_record_is_named(hub):
    path = get_model("small")
    path.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"small\.json is damaged"):
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


def test_a_home_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("STUNET_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match="STUNET_HOME"):
        get_model("base")


def test_unknown_and_absent_models(tmp_path, monkeypatch):
    monkeypatch.setenv("STUNET_HOME", str(tmp_path))
    for function in (get_model, verify_model, remove_model):
        with pytest.raises(UserError, match=r"no model 'bse'.* Known names: hippocampus, small, base"):
            function("bse")
    for function in (verify_model, remove_model):
        with pytest.raises(UserError, match="`stunet weights get base`"):
            function("base")
    assert models_folder() == tmp_path / "models"


def test_the_default_home(monkeypatch):
    monkeypatch.delenv("STUNET_HOME", raising=False)
    assert models_folder() == Path.home() / ".stunet" / "models"


def test_the_bundled_model(tmp_path, monkeypatch):
    missing = CatalogueEntry("hippocampus", "small", "MR", "", "", None, "absent.safetensors", 1)
    monkeypatch.setitem(CATALOGUE, "hippocampus", missing)
    for function in (get_model, verify_model):
        with pytest.raises(UserError, match=r"should be included in stunet, but .*absent.* is missing"):
            function("hippocampus")
    with pytest.raises(UserError, match="is included in stunet and cannot be removed"):
        remove_model("hippocampus")
    path = tmp_path / "here.safetensors"
    save_model(path, network().state_dict(), card())
    monkeypatch.setattr(catalogue, "_path_of", lambda entry: path)
    assert get_model("hippocampus") == path
    assert verify_model("hippocampus").path == path
