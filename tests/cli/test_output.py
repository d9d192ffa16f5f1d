"""JSON on stdout is JSON in every encoding that stdout may have."""

import io
import json
import sys

import pytest

from stunet.cli.output import print_json

RESULT = {"größe": 1.5, "path": "sc\udce4n_头³.nii", "quoted": 'a\\b"c'}


@pytest.mark.parametrize("encoding", ["utf-8", "gbk", "cp932", "cp1252", "ascii", "utf-16"])
def test_json_in_every_encoding(monkeypatch, encoding):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding=encoding, errors="backslashreplace"))
    print_json(RESULT)
    sys.stdout.flush()
    assert json.loads(written.getvalue().decode(encoding)) == RESULT
    assert ("größe" in written.getvalue().decode(encoding)) == (encoding == "utf-8")
