"""The compose file: its commands are those of the programs, and what its image copies is there. Docker does not run."""

import re
import shlex
import sys

import pytest

from stunet.cli.main import parse
from tests.conftest import REPOSITORY

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FOLDER = REPOSITORY / "integrations" / "compose"
DOCKERFILE = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
SERVICES = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]


def test_the_servers_commands_are_those_of_stunet():
    command = re.search(r'^CMD (\["stunet", "serve".*\])$', DOCKERFILE, re.M)[1]
    for words in (yaml.safe_load(command), SERVICES["stunet"]["command"]):
        assert words[0] == "stunet" and parse(words[1:]).host == "0.0.0.0"
    assert "stunet" in parse(SERVICES["stunet"]["command"][1:]).allow_host  # as the poller calls it


def test_the_pollers_command_is_that_of_the_script(monkeypatch):
    python, script, *arguments = SERVICES["poller"]["command"]
    assert python == "python" and script == "/opt/stunet/orthanc/segment_arrivals.py"
    monkeypatch.syspath_prepend(str(REPOSITORY / "integrations" / "orthanc"))
    monkeypatch.setattr(sys, "argv", ["segment_arrivals.py", *arguments])
    import segment_arrivals

    given = segment_arrivals._arguments()
    assert (given.orthanc, given.server) == ("http://orthanc:8042", "http://stunet:8000")
    for name in ("segment_arrivals", "poller", "orthanc_rest", "progress_file"):
        del sys.modules[name]


def test_the_image_copies_what_is_there_and_installs_extras_that_exist():
    copied = [source for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.M) for source in shlex.split(line)[:-1]]
    assert copied and all((REPOSITORY / source).exists() for source in copied)
    (extras,) = re.findall(r"'\.\[(.*)\]'", DOCKERFILE)
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    assert all(f"\n{extra} = [" in project for extra in extras.split(","))
    assert {"serve", "dicom"} <= set(extras.split(","))


def test_secrets_are_asked_for_and_ports_are_this_machines():
    text = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
    named = set(re.findall(r"\$\{(\w+)", text))
    assert named == set(re.findall(r"^(\w+)=", (FOLDER / "env.example").read_text(), re.M))
    assert all(f"${{{name}:?" in text for name in ("STUNET_TOKEN", "ORTHANC_PASSWORD"))
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports and all(port.startswith(("127.0.0.1:", "${DICOM_ADDRESS:-127.0.0.1}:")) for port in ports)
    assert (
        "/.env" in (REPOSITORY / ".gitignore").read_text() or ".env" in (REPOSITORY / ".gitignore").read_text().split()
    )
