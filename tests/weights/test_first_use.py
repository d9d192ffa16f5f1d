"""Files that differ from the catalogue, or from those of first use."""

import json
import os
from dataclasses import replace

import pytest

from stunet.errors import UserError
from stunet.files import file_sha256
from stunet.weights.catalogue import CATALOGUE, models_folder
from stunet.weights.model_file import save_model
from stunet.weights.model_store import get_model, remove_model, verify_model
from tests.weights.loopback_hub import entry, files_in
from tests.weights.samples import card, network


def test_first_use_is_recorded(hub):
    path = get_model("small")
    record = json.loads(path.with_suffix(".json").read_text())
    assert record["source_sha256"] == hub.etag.strip('"')
    assert record["sha256"] == file_sha256(path)
    assert record["bytes"] == path.stat().st_size


@pytest.mark.parametrize("sha256_as_etag", [True, False])
def test_a_changed_publication_is_refused(hub, sha256_as_etag):
    hub.sha256_as_etag = sha256_as_etag
    get_model("small")
    remove_model("small")
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


def test_the_bundled_model_is_the_one_in_the_catalogue(monkeypatch):
    assert verify_model("hippocampus").path.name == "hippocampus.safetensors"
    monkeypatch.setitem(CATALOGUE, "hippocampus", replace(CATALOGUE["hippocampus"], sha256="ab" * 32))
    with pytest.raises(UserError, match="is not the file that this version of stunet knows as model 'hippocampus'"):
        verify_model("hippocampus")


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
    assert verify_model("small").sha256 == file_sha256(path)
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
    assert verify_model("base").sha256 == file_sha256(get_model("base"))


def test_a_damaged_record_is_named(hub):
    path = get_model("small")
    path.with_suffix(".json").write_text("{")
    with pytest.raises(UserError, match=r"small\.json is damaged"):
        get_model("small")
