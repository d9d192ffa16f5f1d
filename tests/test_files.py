import hashlib
import json
from contextlib import suppress
from pathlib import Path

import pytest

from stunet.errors import UserError
from stunet.files import (
    append_json_line,
    file_sha256,
    home_folder,
    made_folder,
    read_json_lines,
    removed_on_failure,
    replacing,
    replacing_files_in,
    require_output,
    require_writable,
    write_json,
)


def test_a_folder_is_removed_unless_all_goes_well(tmp_path):
    for failure in (KeyboardInterrupt, ValueError, None):
        folder = tmp_path / str(failure)
        folder.mkdir()
        with suppress(KeyboardInterrupt, ValueError), removed_on_failure(folder):
            (folder / "file").touch()
            if failure is not None:
                raise failure
        assert folder.exists() is (failure is None)


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


def test_files_of_a_folder_are_replaced_together_and_others_stay(tmp_path):
    folder = tmp_path / "masks"
    for content in ("before", "after"):
        with replacing_files_in(folder) as temporary:
            (temporary / "liver").write_text(content)
            assert not folder.exists() or (folder / "liver").read_text() == "before"
        (folder / "notes").touch()
    assert (folder / "liver").read_text() == "after"
    with pytest.raises(RuntimeError, match="half way"), replacing_files_in(folder) as temporary:
        (temporary / "liver").write_text("half")
        raise RuntimeError("half way")
    assert (folder / "liver").read_text() == "after"
    assert sorted(path.name for path in folder.iterdir()) == ["liver", "notes"]
    assert [path.name for path in tmp_path.iterdir()] == ["masks"]


def test_a_folder_is_made_with_all_above_it_and_may_be_there(tmp_path):
    folder = tmp_path / "results" / "today"
    assert made_folder(folder) == made_folder(folder) == folder
    assert folder.is_dir()


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"file/folder: the folder cannot be created \(Not a directory\)"):
        made_folder(tmp_path / "file" / "folder")


@pytest.mark.parametrize(
    ("value", "expected"), [("/data/models", "/data/models"), ("~/models", "HOME/models"), ("", "HOME/.stunet")]
)
def test_home_is_the_variable_or_in_the_users_folder(monkeypatch, value, expected):
    monkeypatch.setenv("STUNET_HOME", value)
    assert home_folder() == Path(expected.replace("HOME", str(Path.home())))


def test_lines_of_json_after_one_that_was_cut_off(tmp_path):
    path = tmp_path / "lines.jsonl"
    assert list(read_json_lines(path)) == []
    written = [{"name": "größe\u2028"}, ["sc\udce4n"]]
    append_json_line(path, written[0])
    path.write_bytes(path.read_bytes() + '{"name": "grö'.encode()[:-1])
    append_json_line(path, written[1])
    assert list(read_json_lines(path)) == written


def test_a_place_for_outputs_is_tried_out_and_left_as_it_was(tmp_path):
    require_writable(tmp_path / "new" / "er")
    require_output(tmp_path / "new" / "labels.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    for place in (Path("/proc/none"), tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(UserError, match=f"{place}: cannot be written to"):
            require_writable(place)
    for place in (tmp_path / ("x" * 300), tmp_path / ("ö" * 150) / "folder"):
        with pytest.raises(UserError, match=r"the name of this output would have 300 bytes"):
            require_writable(place)
    with pytest.raises(UserError, match="folder is a folder"):
        require_output(tmp_path / "folder")


def test_a_disk_that_takes_an_empty_file_and_no_more_is_full(tmp_path):
    """A limit on file size simulates it."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot be written to \(File too large\)"):
            require_writable(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    require_writable(tmp_path)


def test_the_hash_of_a_file_is_that_of_its_content(tmp_path):
    content = b"labels" * 500_000  # more than one block
    (tmp_path / "file").write_bytes(content)
    assert file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
