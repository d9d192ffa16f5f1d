"""`stunet COMMAND ...`: parse, run, and turn errors into a message and an exit code."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import make_dataclass
from typing import Annotated, Any, Union

import tyro

from stunet.cli.batch import ACTIONS, Batch
from stunet.cli.command import BAD_INPUT, DONE, EXIT_CODES, Command, carry_out
from stunet.cli.dataset import Dataset
from stunet.cli.demo import Demo
from stunet.cli.doctor import Doctor
from stunet.cli.evaluate import Evaluate
from stunet.cli.experiment import ExperimentCommand
from stunet.cli.export import Export
from stunet.cli.mcp import Mcp
from stunet.cli.models import Models
from stunet.cli.plain_help import make_plain
from stunet.cli.predict import Predict
from stunet.cli.prepare import Prepare
from stunet.cli.report import Report
from stunet.cli.series import SeriesCommand
from stunet.cli.serve import Serve
from stunet.cli.train import Train
from stunet.cli.verify import Verify
from stunet.cli.weights import Weights
from stunet.errors import UnknownNameError

COMMANDS: dict[str, type] = {
    "demo": Demo,
    "predict": Predict,
    "batch": Batch,
    "series": SeriesCommand,
    "report": Report,
    "verify": Verify,
    "models": Models,
    "weights": Weights,
    "dataset": Dataset,
    "prepare": Prepare,
    "train": Train,
    "evaluate": Evaluate,
    "experiment": ExperimentCommand,
    "export": Export,
    "serve": Serve,
    "mcp": Mcp,
    "doctor": Doctor,
}

DESCRIPTION = f"""STU-Net: segment CT, MR and PET scans, and train the networks that do it. Not a medical device.

Start with: stunet demo
            stunet predict -i ct.nii.gz -o labels.nii.gz -m base
            stunet --version

{EXIT_CODES}"""


def _command_line() -> Any:
    """A dataclass around the command. For a bare Union, tyro reads the source of `typing`, a seventh of help's time."""
    members = (Annotated[command, tyro.conf.subcommand(name)] for name, command in COMMANDS.items())
    return make_dataclass("CommandLine", [("command", Union[tuple(members)])])  # noqa: UP007 (made from a table)


def parse(arguments: Sequence[str] | None = None) -> Command:
    """Parse the command from the arguments. On invalid arguments, print a message and exit with 2."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if not arguments:
        with suppress(SystemExit):
            parse(["--help"])
        raise SystemExit(BAD_INPUT)
    if not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
        sys.stderr.write(f"stunet: {UnknownNameError.of('command', arguments[0], COMMANDS)}\n")
        raise SystemExit(BAD_INPUT)
    if arguments[0] == "batch" and len(arguments) > 1 and arguments[1] not in (*ACTIONS, "-h", "--help"):
        arguments.insert(1, "run")
    config = (tyro.conf.OmitSubcommandPrefixes, tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone)
    for kind in COMMANDS.values():
        make_plain(kind)
    given = tyro.cli(_command_line(), prog="stunet", description=DESCRIPTION, args=arguments, config=config)
    command: Command = given.command
    return command


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Bad input gives a message, never a traceback."""
    return carry_out(lambda: parse(arguments))


def main() -> None:
    """Entry point of the console script."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # escape characters that the terminal cannot show, instead of failing
            stream.reconfigure(errors="backslashreplace")
    if len(sys.argv) > 1 and sys.argv[1] in ("--version", "-V"):
        from stunet import __version__

        print(f"stunet {__version__}")  # noqa: T201
        sys.exit(DONE)
    sys.exit(run())
