"""The tree of exceptions, and messages that suggest the closest known name."""

import pytest

import stunet.errors as errors
from stunet.cli.command import BAD_INPUT
from stunet.cli.main import run
from stunet.errors import FileError, MissingPackageError, UnknownNameError, UnsafeFileError, UserError
from stunet.extras import from_extra
from stunet.networks.registry import find_network
from stunet.training.stopping import TrainingStopped
from stunet.weights.checkpoint import read_checkpoint


def test_the_docstring_draws_every_error():
    classes = [name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)]
    assert len(classes) == 8
    for name in (*classes, TrainingStopped.__name__):
        assert f"── {name} " in errors.__doc__


def test_the_branches_are_as_drawn():
    assert issubclass(UnsafeFileError, FileError) and issubclass(FileError, UserError)
    assert issubclass(UserError, ValueError) and not issubclass(errors.Stopped, ValueError)
    assert issubclass(TrainingStopped, errors.Stopped)


def test_a_near_miss_is_suggested_and_nothing_where_nothing_is_near():
    with pytest.raises(UnknownNameError, match=r"Did you mean 'huge'\? Known names: tiny, small"):
        find_network("hugee")
    assert "Did you mean" not in str(UnknownNameError.of("network", "zzz", ["base"]))


def test_a_missing_package_names_its_extra():
    message = r"needs no_such_package, which is not installed: pip install '\.\[cpu\]' in the clone of stunet\.$"
    with pytest.raises(MissingPackageError, match=message), from_extra("cpu"):
        import no_such_package  # noqa: F401


def test_a_file_that_wants_to_run_something_is_unsafe(shared_data):
    with pytest.raises(UnsafeFileError, match="would run"):
        read_checkpoint(shared_data / "bad_inputs" / "exec_plain.model.pkl")


def test_the_command_line_gives_the_same_code_for_all(capsys, tmp_path):
    assert (
        run(["weights", "import", str(tmp_path / "absent.model"), "-o", str(tmp_path / "x.safetensors")]) == BAD_INPUT
    )
    assert "There is no file" in capsys.readouterr().err
