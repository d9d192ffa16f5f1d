"""What a conversion leaves behind: its settings, and a line for each case, from which it is resumed."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from stunet.datasets.raw import DESCRIPTION
from stunet.datasets.source import SplitPart
from stunet.errors import UserError
from stunet.files import read_json_object, write_json

RECORD_NAME = "conversion.json"
CASES_NAME = "conversion_cases.jsonl"

ConversionOutcome = Literal["written", "failed", "damaged", "empty"]
"""Damaged cases are known to be so in the publication; empty ones are left out where only labelled ones are wanted."""


@dataclass(frozen=True)
class CaseRecord:
    """What became of one case.

    Attributes:
        name, part: of the case.
        outcome: whether it is in the new dataset, and if not, why.
        error: a sentence where it is not.
        labels: the integers that its label map holds, background left out.
        overlaps: "a under b" -> voxels that structure a lost to structure b.
        missing: structures without a mask.
        spacing: (Z, Y, X) mm that it had, where it was resampled.
    """

    name: str
    part: SplitPart
    outcome: ConversionOutcome
    error: str | None = None
    labels: tuple[int, ...] = ()
    overlaps: Mapping[str, int] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    spacing: tuple[float, ...] | None = None


def start_record(folder: Path, settings: Mapping[str, Any]) -> None:
    """Write the settings of a conversion, or find that they are those of the one that is to be resumed.

    Raises:
        UserError: the folder holds a dataset that was not converted, or converted with other settings.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        if (folder / DESCRIPTION).exists():
            raise UserError(f"{folder} holds a dataset that this conversion did not make. Take another number.")
        write_json(path, {"settings": dict(settings), "finished": False})
        return
    started = read_settings(folder)
    for name, value in settings.items():
        if started.get(name) != value:
            raise UserError(
                f"{folder} was begun with {name.replace('_', ' ')} {started.get(name)!r}, not {value!r}. Give the same "
                "to go on, or remove the folder."
            )


def finish_record(folder: Path, result: Mapping[str, Any]) -> None:
    """Write what came out beside the settings."""
    write_json(folder / RECORD_NAME, {"settings": read_settings(folder), "finished": True, **result})


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings that a conversion was started with."""
    path = folder / RECORD_NAME
    try:
        return dict(read_json_object(path)["settings"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error!r}). Remove the folder and convert again.") from error


def append_case(path: Path, record: CaseRecord) -> None:
    """Add a line to the log of cases.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record), ensure_ascii=False) + "\n")
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror or error}).") from error


def read_cases(path: Path) -> dict[str, CaseRecord]:
    """Name -> newest line of each case; a line that was cut off, when the conversion was killed, does not count."""
    records: dict[str, CaseRecord] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else ():
        try:
            fields = json.loads(line)
            lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
            record = CaseRecord(**{**fields, **lists})
        except (ValueError, TypeError, AttributeError):
            continue
        records[record.name] = record
    return records
