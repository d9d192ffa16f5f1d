"""What a command is, and how its errors become a sentence and an exit code."""

import logging
import traceback
from typing import Protocol

from rich.console import Console

from stunet.errors import UserError

DONE, FAILED, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
"""Exit codes: all that was asked for was done; a failure of ours; bad input or usage; Ctrl-C."""


class Command(Protocol):
    """What each command is: a dataclass whose fields are the options."""

    def run(self) -> int:
        """Do it, and return an exit code."""


def carry_out(command: Command) -> int:
    """Run a command that was parsed, and turn its errors into a sentence and an exit code."""
    _show_warnings()
    errors = Console(stderr=True, soft_wrap=True, highlight=False)
    try:
        return command.run()
    except UserError as error:
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


def _show_warnings() -> None:
    """What the rooms log, such as remarks on an odd file, goes to stderr as a line of ours."""
    to_stderr = logging.StreamHandler()
    to_stderr.setFormatter(logging.Formatter("stunet: %(message)s"))
    logging.getLogger("stunet").handlers = [to_stderr]
