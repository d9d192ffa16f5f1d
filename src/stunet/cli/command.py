"""What a command is: the options that all have, and how its errors become a sentence and an exit code."""

import logging
import os
import sys
import traceback
from dataclasses import dataclass
from typing import Annotated, Protocol

import tyro
from rich.console import Console

from stunet.cli.output import MESSAGES, RESULTS, Switch
from stunet.errors import UserError

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all that was asked for was done; a failure of ours; bad input or usage; Ctrl-C."""

EXIT_CODES = "Exit codes: 0 all done, 1 failure, 2 bad input or usage, 130 interrupted."


@dataclass(kw_only=True)
class Options:
    """What every command can be told."""

    json: Switch = False
    """Print the result as JSON on stdout."""
    quiet: Annotated[Switch, tyro.conf.arg(aliases=["-q"])] = False
    """Print only errors (and JSON, with --json)."""
    verbose: Annotated[Switch, tyro.conf.arg(aliases=["-v"])] = False
    """Print more, and the traceback of errors."""
    threads: int | None = None
    """Number of CPU threads. Default: all."""


class Command(Protocol):
    """What each command is: a dataclass whose fields are the options."""

    def run(self) -> int:
        """Do it, and return an exit code."""


def carry_out(command: Command) -> int:
    """Run a command that was parsed, and turn its errors into a sentence and an exit code."""
    options = _options_of(command)
    _speak(options)
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        _compute_with(options.threads)
        return command.run()
    except UserError as error:
        if options.verbose:
            traceback.print_exc()
        errors.print(f"stunet: {error}", markup=False)
        return BAD_INPUT
    except KeyboardInterrupt:
        errors.print("stunet: interrupted")
        return INTERRUPTED
    except MemoryError:
        errors.print("stunet: not enough memory")
        return FAILED
    except Exception:  # the last resort: nothing is hidden, only the exit code and a request are added
        traceback.print_exc()
        errors.print("stunet: internal error. Please report the traceback above.")
        return FAILED


def _options_of(command: Command) -> Options:
    """Those of the command itself, or of the action of a group of commands."""
    chosen = getattr(command, "action", command)
    return chosen if isinstance(chosen, Options) else Options()


def _speak(options: Options) -> None:
    """How much is printed. What the rooms log, such as remarks on an odd file, goes to stderr as a line of ours."""
    MESSAGES.quiet = RESULTS.quiet = options.quiet
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(logging.Formatter("stunet: %(message)s"))
    logger = logging.getLogger("stunet")
    logger.handlers = [to_stderr]
    logger.setLevel(logging.ERROR if options.quiet else logging.DEBUG if options.verbose else logging.WARNING)


def _compute_with(threads: int | None) -> None:
    """Limit the threads of torch, and so of OpenVINO and ONNX Runtime, which are given as many."""
    if threads is None:
        return
    if threads < 1:
        raise UserError(f"--threads is 1 or more, not {threads}.")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # for torch that is not loaded yet, and for processes of ours
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
