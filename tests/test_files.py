import json

import pytest

from stunet.errors import UserError
from stunet.files import replacing, write_json


def test_what_was_there_stays_until_all_is_written(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("before")
    with replacing(path) as temporary:
        temporary.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("before")
    with pytest.raises(RuntimeError, match="half way"), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("half way")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"absent/report\.json: cannot be written \(No such file"):
        write_json(tmp_path / "absent" / "report.json", {})


def test_json_keeps_letters_as_they_are(tmp_path):
    write_json(tmp_path / "report.json", {"größe": 1})
    assert "größe" in (tmp_path / "report.json").read_text(encoding="utf-8")
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == {"größe": 1}
