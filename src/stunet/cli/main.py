"""`stunet COMMAND ...`: parse, run, and turn errors into a sentence and an exit code."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import make_dataclass
from typing import Annotated, Any, Union

import tyro

from stunet.cli.command import BAD_INPUT, DONE, EXIT_CODES, Command, carry_out
from stunet.cli.dataset import Dataset
from stunet.cli.demo import Demo
from stunet.cli.doctor import Doctor
from stunet.cli.evaluate import Evaluate
from stunet.cli.experiment import ExperimentCommand
from stunet.cli.export import Export
from stunet.cli.models import Models
from stunet.cli.plain_help import make_plain
from stunet.cli.predict import Predict
from stunet.cli.prepare import Prepare
from stunet.cli.train import Train
from stunet.cli.weights import Weights
from stunet.errors import UnknownNameError

COMMANDS: dict[str, type] = {
    "demo": Demo,
    "predict": Predict,
    "models": Models,
    "weights": Weights,
    "dataset": Dataset,
    "prepare": Prepare,
    "train": Train,
    "evaluate": Evaluate,
    "experiment": ExperimentCommand,
    "export": Export,
    "doctor": Doctor,
}

DESCRIPTION = f"""STU-Net: segment CT, MR and PET scans, and train the networks that do it. Not a medical device.

Start with: stunet demo
            stunet predict -i ct.nii.gz -o labels.nii.gz -m base
            stunet --version

{EXIT_CODES}"""


def _command_line() -> Any:
    """A dataclass around the command: for a bare Union tyro reads the source of `typing`, a seventh of `--help`."""
    members = (Annotated[command, tyro.conf.subcommand(name)] for name, command in COMMANDS.items())
    return make_dataclass("CommandLine", [("command", Union[tuple(members)])])  # noqa: UP007 (made from a table)


def parse(arguments: Sequence[str] | None = None) -> Command:
    """The command that the arguments describe; exits with 2 and a sentence where they describe none."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments:
        with suppress(SystemExit):
            parse(["--help"])
        raise SystemExit(BAD_INPUT)
    if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        sys.stderr.write(f"stunet: {UnknownNameError.of('command', arguments[0], COMMANDS)}\n")
        raise SystemExit(BAD_INPUT)
    config = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
    for kind in COMMANDS.values():
        make_plain(kind)
    given = tyro.cli(_command_line(), prog="stunet", description=DESCRIPTION, args=arguments, config=config)
    command: Command = given.command
    return command


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; bad input costs a sentence, never a traceback."""
    return carry_out(parse(arguments))


def main() -> None:
    """The console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # letters that a terminal does not have become escapes, not errors
            stream.reconfigure(errors="backslashreplace")
    if len(sys.argv) > 1 and sys.argv[1] in ("--version", "-V"):
        from stunet import __version__

        print(f"stunet {__version__}")  # noqa: T201
        sys.exit(DONE)
    sys.exit(run())
