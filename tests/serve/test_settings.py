"""Which servers may start, and who their users are."""

import pytest

from stunet.errors import UserError
from stunet.serve.settings import ServerSettings, read_tokens


def test_beyond_this_machine_tokens_are_needed(tmp_path):
    for host in ("127.0.0.1", "localhost", "::1"):
        assert ServerSettings(tmp_path, host=host).is_loopback
    for host in ("0.0.0.0", "::", "192.168.1.5", "myhost"):
        with pytest.raises(UserError, match="users need tokens"):
            ServerSettings(tmp_path, host=host)
        assert ServerSettings(tmp_path, host=host, tokens={"0123456789abcdef": "anna"}).tokens


def test_a_server_on_all_addresses_is_not_known_by_any_name(tmp_path):
    settings = ServerSettings(tmp_path, host="0.0.0.0", tokens={"0123456789abcdef": "anna"}, hosts=("Ct.Example",))
    assert "0.0.0.0" not in settings.known_hosts and "ct.example" in settings.known_hosts


def test_a_certificate_needs_its_key(tmp_path):
    with pytest.raises(UserError, match="belong together"):
        ServerSettings(tmp_path, certificate=tmp_path / "cert.pem")


def test_tokens():
    text = "# users\n\nanna:0123456789abcdef\n ben : a:token:with:colons!\n"
    assert read_tokens(text) == {"0123456789abcdef": "anna", "a:token:with:colons!": "ben"}
    for wrong in ("anna", "anna:short", ":0123456789abcdef", "a:0123456789abcdef\nb:0123456789abcdef"):
        with pytest.raises(UserError, match="of the tokens") as refused:
            read_tokens(wrong)
        assert "0123456789abcdef" not in str(refused.value)


def test_tokens_are_not_shown(tmp_path):
    assert "0123456789abcdef" not in repr(ServerSettings(tmp_path, tokens={"0123456789abcdef": "anna"}))


def test_models_of_one_name(tmp_path):
    with pytest.raises(UserError, match="two models have the same name"):
        ServerSettings(tmp_path, models=("a/spine.safetensors", "b/spine.safetensors"))
