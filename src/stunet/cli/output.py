"""What commands print: results on stdout as a table or as JSON, all else on stderr."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Annotated, Any

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from stunet.files import as_json

Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff]
"""An option that is on where it is given; there is no --no-... of it."""

RESULTS = Console(highlight=False)
MESSAGES = Console(stderr=True, highlight=False)


def print_json(result: Any) -> None:
    """A result for machines, on stdout."""
    sys.stdout.write(as_json(result) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console = RESULTS) -> None:
    """A result for people, on stdout unless another console is named; columns of numbers are aligned to the right."""
    console.print(title, style="bold", soft_wrap=True, markup=False)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        are_numbers = all(row[number][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if are_numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_summary(title: str, summary: Mapping[str, Any], as_json: bool) -> None:
    """What a command did, as JSON for machines or as a table of names and values for people."""
    print_result(summary, as_json, title, ("", "value"), [(name, str(value)) for name, value in summary.items()])


def print_result(result: Any, as_json: bool, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """What a command found, as JSON for machines or as a table for people."""
    if as_json:
        print_json(result)
    else:
        print_table(title, columns, rows)


def print_sentence(result: Any, as_json: bool, sentence: str) -> None:
    """What a command did, as JSON for machines or as a sentence on stderr for people."""
    if as_json:
        print_json(result)
    else:
        MESSAGES.print(sentence, soft_wrap=True)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[..., None]]:
    """A bar with time left, on stderr; silent where stderr is no terminal.

    Yields:
        To be called with how much is done, how much there is in all and, where it changes, a new description.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=MESSAGES, transient=True, disable=not MESSAGES.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total, stage=None: progress.update(task, completed=done, total=total, description=stage)


@contextmanager
def stdout_to_stderr() -> Iterator[None]:
    """Send all that is printed meanwhile to stderr, child processes' lines included; nnU-Net prints a lot."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):  # sys.stdout need not be file descriptor 1
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
