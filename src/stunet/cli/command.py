"""The base of all commands: shared options, and how errors become a message and an exit code."""

import errno
import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Protocol

import tyro

from stunet.cli.output import MESSAGES, RESULTS, Switch
from stunet.errors import UserError
from stunet.memory import lacks_memory

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: success; internal error; bad input or usage; Ctrl-C."""

EXIT_CODES = "Exit codes: 0 all done, 1 failure, 2 bad input or usage, 130 interrupted."


@dataclass(kw_only=True)
class Options:
    """The options of every command."""

    json: Switch = False
    """Print the result as JSON on stdout."""
    quiet: Annotated[Switch, tyro.conf.arg(aliases=["-q"])] = False
    """Print only errors (and JSON, with --json)."""
    verbose: Annotated[Switch, tyro.conf.arg(aliases=["-v"])] = False
    """Print more, and the traceback of errors."""
    threads: int | None = None
    """Number of CPU threads. Default: all."""


class Command(Protocol):
    """A command: a dataclass whose fields are its options."""

    def run(self) -> int:
        """Run the command and return an exit code."""


def carry_out(parsed: Callable[[], Command]) -> int:
    """Run a command, and turn its errors into a message and an exit code.

    Args:
        parsed: gives the command. It is called here because memory can run out, and Ctrl-C can come, while it parses.
    """
    options = Options()
    try:
        command = parsed()
        options = _options_of(command)
        _speak(options)
        _compute_with(options.threads)
        return command.run()
    except UserError as error:
        if options.verbose:
            traceback.print_exc()
        _say(f"stunet: {error}")
        return BAD_INPUT
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return _internal_error()
        _say(f"stunet: {str(error.filename)[:60]}...: this path is longer than the system allows")
        return BAD_INPUT
    except KeyboardInterrupt:
        _say("stunet: interrupted")
        return INTERRUPTED
    except Exception as error:
        if lacks_memory(error):
            _say("stunet: not enough memory")
            return FAILED
        return _internal_error()  # everything else is a bug


def _internal_error() -> int:
    """Print the full traceback, and ask the user to report it."""
    traceback.print_exc()
    _say("stunet: internal error. Please report the traceback above.")
    return FAILED


def _say(sentence: str) -> None:
    """Print a sentence on stderr. Not by rich, which loads parts of itself on use: memory may have run out."""
    sys.stderr.write(f"{sentence}\n")


def _options_of(command: Command) -> Options:
    """The options of the command itself, or of the chosen action of a command group."""
    chosen = getattr(command, "action", command)
    return chosen if isinstance(chosen, Options) else Options()


def _speak(options: Options) -> None:
    """Set how much is printed. Log messages of the package, such as remarks on an odd file, go to stderr."""
    MESSAGES.quiet = RESULTS.quiet = options.quiet
    warnings.filterwarnings("ignore", module="pydicom")  # odd headers are common; stunet reports those that matter
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(logging.Formatter("stunet: %(message)s"))
    logger = logging.getLogger("stunet")
    logger.handlers = [to_stderr]
    logger.setLevel(logging.ERROR if options.quiet else logging.DEBUG if options.verbose else logging.WARNING)


def _compute_with(threads: int | None) -> None:
    """Limit the threads of torch. OpenVINO and ONNX Runtime then use the same number."""
    if threads is None:
        return
    if threads < 1:
        raise UserError(f"--threads must be 1 or more, not {threads}.")
    os.environ["OMP_NUM_THREADS"] = str(threads)  # if torch is not loaded yet, and for child processes
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(threads)
