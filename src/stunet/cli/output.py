"""Output of commands: results on stdout as a table or JSON, everything else on stderr."""

import codecs
import json
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
"""An option without a value that turns something on. It has no --no-... form."""

RESULTS = Console(highlight=False, markup=False, emoji=False)
"""Prints text as it is: in the name of a file or a structure, [x] is no style and :dog: is no picture of a dog."""

MESSAGES = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""The same on stderr."""


def print_json(result: Any) -> None:
    """Print a result as JSON on stdout. If stdout is not UTF-8, non-ASCII characters are escaped."""
    is_utf8 = codecs.lookup(sys.stdout.encoding or "ascii").name == "utf-8"
    sys.stdout.write((as_json(result) if is_utf8 else json.dumps(result, indent=2)) + "\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], console: Console = RESULTS) -> None:
    """Print a table on stdout or another console. Columns of numbers are right-aligned."""
    console.print(title, style="bold", soft_wrap=True)
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for number, column in enumerate(columns):
        are_numbers = all(row[number][:1].isdigit() for row in rows)
        table.add_column(column, justify="right" if are_numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def print_summary(title: str, summary: Mapping[str, Any], as_json: bool) -> None:
    """Print a command's outcome as JSON or as a table of names and values."""
    print_result(summary, as_json, title, ("", "value"), [(name, str(value)) for name, value in summary.items()])


def print_result(result: Any, as_json: bool, title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a command's result as JSON or as a table."""
    if as_json:
        print_json(result)
    else:
        print_table(title, columns, rows)


def print_sentence(result: Any, as_json: bool, sentence: str) -> None:
    """Print a command's outcome as JSON, or as a sentence on stderr."""
    if as_json:
        print_json(result)
    else:
        MESSAGES.print(sentence, soft_wrap=True)


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[..., None]]:
    """A progress bar with time left on stderr; silent if stderr is not a terminal.

    Yields:
        A function to call with the amount done, the total and, if it changes, a new description.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
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
    """Redirect everything printed to stderr, including output of child processes. nnU-Net prints a lot."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):  # sys.stdout may not be file descriptor 1
            yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
