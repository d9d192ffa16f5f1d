"""`make audit` tells weaknesses from a service that did not answer."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[1] / "packaging" / "audit.py"

SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
WEAK = {"name": "torch", "version": "2.9.1", "vulns": [{"id": "CVE-2026-24747"}, {"id": "PYSEC-1"}]}
UNKNOWN = {"name": "scipy", "skip_reason": "Dependency not found on PyPI and could not be audited: scipy (1.17.1)"}


@pytest.fixture
def audit(monkeypatch):
    specification = importlib.util.spec_from_file_location("audit", FILE)
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "audit", module)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("libraries", "code", "said"),
    [
        ([SOUND], 0, "1 libraries were compared with known weaknesses."),
        ([SOUND, UNKNOWN], 0, "1 libraries were compared with known weaknesses, 1 could not be."),
        ([SOUND, WEAK], 1, "torch 2.9.1: CVE-2026-24747, PYSEC-1"),
        ([UNKNOWN], 0, "No library was compared with known weaknesses: the service cannot be reached"),
        (None, 0, "No library was compared with known weaknesses: the service cannot be reached"),
    ],
)
def test_what_was_found_is_said(audit, monkeypatch, capsys, libraries, code, said):
    output = "" if libraries is None else json.dumps({"dependencies": libraries, "fixes": []})
    monkeypatch.setattr(audit, "_run", lambda words: (0, output))
    assert audit.main() == code
    assert said in capsys.readouterr().out


def test_a_missing_program_is_said(audit, monkeypatch, capsys, tmp_path):
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexit 1\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    assert audit.main() == 1
    assert "is cyclonedx-bom installed?" in capsys.readouterr().err
