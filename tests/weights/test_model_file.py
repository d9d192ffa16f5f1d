"""Model files are written and read again; damaged ones are refused with a clear message."""

import json
import re
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from stunet.errors import UserError
from stunet.networks.registry import build_network
from stunet.plans.labels import Region
from stunet.plans.network_spec import NetworkSpec
from stunet.weights.model_card import CARD_VERSION, MAX_HEADER_BYTES, stunet_on
from stunet.weights.model_file import (
    ModelCard,
    build_network_from,
    joined,
    mismatches,
    read_card,
    read_model,
    save_model,
    separated,
)
from tests.weights.samples import card, network


@pytest.fixture
def model_path(tmp_path):
    path = tmp_path / "models" / "sample.safetensors"
    save_model(path, network().state_dict(), card())
    return path


def with_header(path, change):
    """Rewrite the JSON header of a safetensors file; `change` edits it in place."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])


def with_card(path, **changes):
    """Rewrite fields of the card in a model file."""

    def change(header):
        fields = {**json.loads(header["__metadata__"]["stunet"]), **changes}
        header["__metadata__"]["stunet"] = json.dumps(fields)

    with_header(path, change)


def test_several_networks_in_one_file(tmp_path):
    first = network().state_dict()
    second = {key: tensor + 1 for key, tensor in first.items()}
    path = tmp_path / "pair.safetensors"
    save_model(path, joined([first, second]), card(members=2))
    state_dict, read = read_model(path)
    assert read == card(members=2)
    assert len(state_dict) == 2 * len(first)
    for written, found in zip((first, second), separated(state_dict, 2), strict=True):
        assert set(found) == set(written)
        assert all(torch.equal(found[key], written[key]) for key in written)


@pytest.mark.parametrize(
    ("networks", "reason"), [(2, "not those of the network"), (0, "one network or more"), (10**9, "claims 10")]
)
def test_a_wrong_number_of_networks_is_refused(model_path, networks, reason):
    with_card(model_path, members=networks)
    with pytest.raises(UserError, match=reason):
        read_card(model_path)


def test_cards_of_before_hold_one_network(model_path):
    def change(header):
        fields = json.loads(header["__metadata__"]["stunet"])
        del fields["members"]
        header["__metadata__"]["stunet"] = json.dumps(fields)

    with_header(model_path, change)
    assert read_card(model_path).members == 1


def test_what_is_written_is_read_again(model_path):
    state_dict, read = read_model(model_path)
    assert read == card() == read_card(model_path)
    expected = network().state_dict()
    assert set(state_dict) == set(expected)
    assert all(torch.equal(state_dict[key], expected[key]) for key in expected)
    assert [p.name for p in model_path.parent.iterdir()] == [model_path.name]
    assert model_path.stat().st_mode & 0o444 == 0o444


def test_the_network_answers_as_before(model_path):
    state_dict, read = read_model(model_path)
    rebuilt = build_network_from(read, state_dict)
    image = torch.randn(1, 1, 32, 32, 32)
    with torch.no_grad():
        assert torch.equal(rebuilt(image), network()(image))
    assert not rebuilt.training


def test_the_network_takes_the_tensors_over(model_path):
    state_dict, read = read_model(model_path)
    rebuilt = build_network_from(read, state_dict)
    assert rebuilt.head.weight.data_ptr() == state_dict["decoder.seg_layers.4.weight"].data_ptr()


def test_half_precision_halves_the_file_and_comes_back_as_float32(model_path, tmp_path):
    path = tmp_path / "half.safetensors"
    save_model(path, network().state_dict(), card(), dtype="float16")
    assert path.stat().st_size < 0.51 * model_path.stat().st_size
    state_dict, read = read_model(path)
    rebuilt = build_network_from(read, state_dict)
    assert {parameter.dtype for parameter in rebuilt.parameters()} == {torch.float32}
    for key, value in network().state_dict().items():
        torch.testing.assert_close(rebuilt.state_dict()[key], value, rtol=1e-3, atol=1e-7)


def test_weights_that_do_not_fit_the_card_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"decoder.seg_layers.0.weight +5 x 128 x 1 x 1 x 1 +3 x 128"):
        save_model(tmp_path / "x.safetensors", network().state_dict(), card(num_classes=5))
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        save_model(tmp_path / "file" / "x.safetensors", network().state_dict(), card())


def test_no_half_written_file_is_left(tmp_path, monkeypatch):
    def fail(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("stunet.weights.model_file.save_file", fail)
    with pytest.raises(UserError, match="No space left"):
        save_model(tmp_path / "x.safetensors", network().state_dict(), card())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kept", [3, 8, 500, -1])
def test_a_file_cut_short_is_refused(model_path, kept):
    model_path.write_bytes(model_path.read_bytes()[:kept])
    with pytest.raises(UserError, match=re.escape(str(model_path))):
        read_card(model_path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    for content in (
        b"hello, this is a text file",
        (2**62).to_bytes(8, "little") + b"{}",
        (MAX_HEADER_BYTES + 1).to_bytes(8, "little") + b" " * (MAX_HEADER_BYTES + 2),
        (2).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (13).to_bytes(8, "little") + b'{"a": "what"}',
        (60_000).to_bytes(8, "little") + b"[" * 60_000,
    ):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"is not a \.safetensors file"):
            read_model(path)


def test_missing_empty_and_folder(tmp_path):
    (tmp_path / "empty").touch()
    for name, reason in (("absent", "no file"), ("empty", "is empty"), (".", "is a folder")):
        with pytest.raises(UserError, match=reason):
            read_model(tmp_path / name)


def test_tensors_without_a_card_are_refused(tmp_path):
    save_file(network().state_dict(), tmp_path / "x.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="no stunet card"):
        read_card(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"card_version": CARD_VERSION + 1}, "update stunet"),
        ({"card_version": None}, "update stunet"),
        ({"labels": ["background"]}, "there are 1 labels for 3 classes"),
        ({"channels": []}, "there are 0 channels for 1 inputs"),
        ({"mirror_axes": [3]}, "mirror axes"),
        (
            {
                "labels": ["x"] * 40_000,
                "network": {
                    "kind": "stunet",
                    "input_channels": 1,
                    "num_classes": 40_000,
                    "arguments": {"width": 8, "depth": 1},
                },
            },
            "at most 32,768 classes",
        ),
        ({"labels": 7}, "incomplete or damaged"),
        ({"network": {"kind": "stunet"}}, "incomplete or damaged"),
        ({"preprocessing": {"spacing": [1, 1, 1]}}, "no valid preprocessing"),
    ],
)
def test_a_card_that_cannot_be_used_is_refused(model_path, changes, reason):
    with_card(model_path, **changes)
    with pytest.raises(UserError, match=reason):
        read_card(model_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"width": 16}, "not those of the network on its card"),
        ({"depth": 2}, "not those of the network on its card"),
        ({"depth": 10**9}, "claims 1000000000 layers"),
        ({"width": 10**12}, "cannot be used"),
        ({"width": 0}, "must be 1 or more"),
        ({"strides": [[1, 1, 1]]}, "six|6 strides"),
        ({"upsampling": "magic"}, "upsampling is"),
        ({"upsampling": "transposed"}, "not those of the network on its card"),
    ],
)
def test_an_stunet_that_the_tensors_do_not_have_is_refused(model_path, changes, reason):
    spec = card().network.with_arguments(**changes)
    with_card(model_path, network=spec.to_dict())
    with pytest.raises(UserError, match=reason):
        read_card(model_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": "unet3d", "arguments": {}}, "not those of the network on its card"),
        ({"kind": "os.system"}, "its network is 'os.system'"),
        ({"input_channels": 0}, "must be 1 or more"),
    ],
)
def test_another_kind_of_network_is_refused(model_path, changes, reason):
    with_card(model_path, network={**card().network.to_dict(), **changes})
    with pytest.raises(UserError, match=reason):
        read_card(model_path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"arguments": {"width": 8, "stages": 3}}, "not those of the network on its card"),
        ({"arguments": {"width": 4, "stages": 10**9}}, "claims 1000000000 layers"),
        ({"arguments": {"width": 10**12, "stages": 3}}, "cannot be used"),
        ({"arguments": {"width": [4], "stages": 3}}, "invalid arguments for unet3d"),
        ({"arguments": {"colour": "blue"}}, "invalid arguments for unet3d"),
        ({"arguments": {"width": {"a": 1}}}, "numbers, text and lists"),
        ({"arguments": "width"}, "cannot be used"),
        ({"kind": "nnunet", "arguments": {"strides": [[1, 1, 1]] * 10**4}}, "claims 10000 layers"),
    ],
)
def test_another_network_that_the_tensors_do_not_have_is_refused(tmp_path, changes, reason):
    unet = build_network("unet3d", 1, 3, width=4, stages=3)
    path = tmp_path / "unet.safetensors"
    save_model(path, unet.state_dict(), replace(card(), network=unet.spec))
    assert read_card(path).network == unet.spec
    with_card(path, network={**unet.spec.to_dict(), **changes})
    with pytest.raises(UserError, match=reason):
        read_card(path)


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_numbers_that_count_keep_their_type(tmp_path, dtype):
    """Batch norm's batch count and Swin UNETR's indices are not weights."""
    unet = build_network("unet3d", 1, 3, width=4, stages=3)
    path = tmp_path / "unet.safetensors"
    save_model(path, unet.state_dict(), replace(card(), network=unet.spec), dtype)
    again = build_network_from(replace(card(), network=unet.spec), read_model(path)[0])
    types = {key: tensor.dtype for key, tensor in again.state_dict().items()}
    assert types == {key: tensor.dtype for key, tensor in unet.state_dict().items()}
    assert torch.int64 in types.values()


def test_what_is_for_stunets_names_the_other_network():
    other = replace(card(), network=NetworkSpec("unet3d", 1, 3))
    with pytest.raises(UserError, match=r"is a unet3d.*only possible for STU-Nets"):
        stunet_on(other)


def test_cards_of_version_1_say_the_same(model_path):
    """In version 1, the arguments of an STU-Net were next to its name, and members were called networks."""

    def change(header):
        fields = json.loads(header["__metadata__"]["stunet"])
        network = fields.pop("network")
        old = {"network": network.pop("kind"), **network.pop("arguments"), **network}
        fields |= {"card_version": 1, "architecture": old, "networks": fields.pop("members")}
        header["__metadata__"]["stunet"] = json.dumps(fields)

    with_header(model_path, change)
    assert read_card(model_path) == card()


def test_fields_of_a_later_program_are_passed_over(model_path):
    with_card(model_path, favourite_colour="blue")
    assert read_card(model_path) == card()


def test_regions_are_on_the_card(model_path):
    card = read_card(model_path)
    regions = tuple(Region(label, (label, 1)) for label in range(len(card.labels), 0, -1))
    card = replace(card, regions=regions)
    assert ModelCard.from_dict(json.loads(json.dumps(card.to_dict()))) == card
    assert card.names == {0: "background", **dict(enumerate(reversed(card.labels), start=1))}
    with pytest.raises(ValueError, match="regions"):
        replace(card, regions=regions[1:])


def test_a_card_survives_json():
    original = card(num_classes=2, labels=("background", "Größe 测试"))
    assert ModelCard.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_weights_of_another_network_are_not_built():
    with pytest.raises(UserError, match="do not fit"):
        build_network_from(card(num_classes=4), network().state_dict())


def test_long_tables_are_cut():
    table = mismatches({f"t{i}": (1,) for i in range(40)}, {})
    assert len(table.splitlines()) == 14
    assert table.endswith("... and 28 more")


@pytest.mark.parametrize("changes", [{"mirror_axes": [float("inf")]}, {"members": float("inf")}], ids=str)
def test_a_card_with_infinite_numbers_is_damaged(changes):
    with pytest.raises(ValueError, match="its card is incomplete or damaged"):
        ModelCard.from_dict({**card().to_dict(), **changes})
