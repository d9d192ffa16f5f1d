"""Table 2 of the paper, on the command line."""

import json

import pytest

from stunet.cli.fit import parse_memory
from stunet.networks.registry import NETWORKS

TABLE_2 = {"small": (14.60, 0.13), "base": (58.26, 0.51), "large": (440.30, 3.81), "huge": (1457.33, 12.60)}


def test_table_2_to_its_last_digit(stunet, capsys):
    assert stunet("models", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["name"]: row for row in shown["sizes"]}
    assert list(rows) == ["tiny", *TABLE_2]
    for name, (parameters, mult_adds) in TABLE_2.items():
        assert rows[name]["parameters_million"] == parameters
        assert rows[name]["mult_adds_tera"] == mult_adds
        assert rows[name]["macs_tera"] != rows[name]["mult_adds_tera"]
        assert rows[name]["inference_macs_tera"] < rows[name]["macs_tera"]
    catalogue = {row["name"]: row for row in shown["catalogue"]}
    assert {"hippocampus", "small", "base", "large", "huge"} <= set(catalogue)
    assert all(row["licence"] and row["source"] for row in catalogue.values())


def test_one_size_with_another_patch(stunet, capsys):
    assert stunet("models", "tiny", "--patch", 64, 64, 96, "--classes", 3, "--channels", 2, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["patch"], shown["classes"]) == ([64, 64, 96], 3)
    assert [row["name"] for row in shown["sizes"]] == ["tiny"]


def test_the_table(stunet, capsys):
    assert stunet("models", "base") == 0
    shown = capsys.readouterr().out
    assert "58.26" in shown and "torchinfo" in shown


@pytest.mark.parametrize(
    ("words", "sentence"), [(["bse"], "bse"), (["tiny", "--patch", "50", "64", "64"], "multiple of 32")]
)
def test_what_cannot_be_counted(stunet, capsys, words, sentence):
    assert stunet("models", *words) == 2
    assert sentence in capsys.readouterr().err


def test_what_fits(stunet, capsys):
    assert stunet("models", "tiny", "--fit", "4GB", "--classes", 3, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["available"], shown["precision"]) == (4 * 10**9, "bfloat16")
    kept, recomputed = shown["training"]
    assert (kept["checkpoint_activations"], recomputed["checkpoint_activations"]) == (False, True)
    assert recomputed["needed_gigabytes"] < kept["needed_gigabytes"] < 4
    assert recomputed["largest_batch"] >= kept["largest_batch"] >= 2
    assert min(kept["largest_patch"]) >= 128 and kept["fsdp_ranks"] == 1
    (prediction,) = shown["prediction"]
    assert prediction["fits"] and min(prediction["largest_window"]) > 128


def test_every_system_of_the_paper_is_listed(stunet, capsys):
    pytest.importorskip("monai")
    pytest.importorskip("dynamic_network_architectures")
    assert stunet("models", "--systems", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)["sizes"]}
    assert list(rows) == list(NETWORKS)
    assert rows["swin_unetr_b"]["title"] == "SwinUNETR-B"
    assert (rows["nnformer"]["parameters_million"], rows["nnformer"]["mult_adds_tera"]) == (153.97, 2.04)
    assert stunet("models", "unet3d", "--systems") == 2
    assert "leave the name" in capsys.readouterr().err


def test_another_network_by_name(stunet, capsys):
    assert stunet("models", "unet3d", "--patch", 64, 64, 64, "--json") == 0
    (row,) = json.loads(capsys.readouterr().out)["sizes"]
    assert (row["name"], row["title"], row["width"]) == ("unet3d", "3D U-Net", None)


def test_the_table_of_what_fits(stunet, capsys):
    assert stunet("models", "tiny", "--fit", "600 MB", "--patch", 64, 64, 64, "--precision", "float32") == 0
    captured = capsys.readouterr()
    assert "Training in 0.6 GB: float32, 105 classes, patch 64x64x64" in captured.out
    assert "recomputed" in captured.out and "no" in captured.out
    assert "GPU" in captured.err


@pytest.mark.parametrize(
    ("text", "size"), [("24GB", 24 * 10**9), ("24 GiB", 24 * 2**30), ("1.5TB", 15 * 10**11), ("640MB", 640 * 10**6)]
)
def test_memory_in_words(text, size):
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["24", "24gb", "24G", "GB", "1,5GB", "0GB", "1e3GB", "24GB RAM", "nanGB", ""])
def test_no_memory(stunet, capsys, text):
    assert stunet("models", "tiny", "--fit", text) == 2
    assert "24GB" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(["--precision", "float32"], "--fit"), (["--fit", "8GB", "--patch", "50", "64", "64"], "multiple of 32")],
)
def test_what_cannot_be_fitted(stunet, capsys, words, sentence):
    assert stunet("models", "tiny", *words) == 2
    assert sentence in capsys.readouterr().err
