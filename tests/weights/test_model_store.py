"""The models on this machine."""

import pytest

from stunet.errors import UserError
from stunet.files import file_sha256
from stunet.networks.registry import size_of
from stunet.weights.catalogue import CATALOGUE, CatalogueEntry, models_folder
from stunet.weights.model_file import read_card, save_model
from stunet.weights.model_store import get_model, remove_model, stored_models, verify_model
from tests.weights.samples import card, network


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


def test_a_removed_model_can_be_fetched_again(hub):
    path = get_model("small")
    assert remove_model("small") == path
    assert not path.exists()
    assert get_model("small").exists()


def test_models_on_this_machine_are_listed(hub):
    assert [model.entry.name for model in stored_models() if model.entry.repository] == []
    path = get_model("small")
    (model,) = [model for model in stored_models() if model.entry.repository]
    assert (model.entry.name, model.path, model.bytes) == ("small", path, path.stat().st_size)
    assert model.sha256 == file_sha256(path)


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
    monkeypatch.setattr(CatalogueEntry, "path", path)
    assert get_model("hippocampus") == path
    assert verify_model("hippocampus").path == path
