"""The record of a conversion: its settings, and a line for each case. Conversions are resumed from it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from stunet.datasets.source import SplitPart
from stunet.errors import UserError
from stunet.files import append_json_line, read_json_lines, read_json_object, write_json
from stunet.plans.raw_dataset import DESCRIPTION

RECORD_NAME = "conversion.json"
CASES_NAME = "conversion_cases.jsonl"

ConversionOutcome = Literal["written", "failed", "damaged", "empty"]
"""Damaged cases are known from the publication. Empty ones are skipped only with `only_labelled`."""


@dataclass(frozen=True)
class CaseRecord:
    """The outcome of one case.

    Attributes:
        name, part: of the case.
        outcome: whether it is in the new dataset, and if not, why.
        error: a sentence if it is not.
        labels: the integers in its label map, without background.
        overlaps: "a under b" -> voxels that structure a lost to structure b.
        missing: structures without a mask.
        spacing: its original spacing (Z, Y, X) in mm, if it was resampled.
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
    """Write the settings of a conversion, or check that they equal those of the conversion to resume.

    Raises:
        UserError: the folder has a dataset that was not converted, or was converted with other settings.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        if (folder / DESCRIPTION).exists():
            raise UserError(f"{folder} contains a dataset that this conversion did not make. Choose another number.")
        write_json(path, {"settings": dict(settings), "finished": False})
        return
    started = read_settings(folder)
    for name, value in settings.items():
        if started.get(name) != value:
            raise UserError(
                f"{folder} was begun with {name.replace('_', ' ')} {started.get(name)!r}, not {value!r}. Give the same "
                "to continue, or remove the folder."
            )


def finish_record(folder: Path, result: Mapping[str, Any]) -> None:
    """Write the result next to the settings."""
    write_json(folder / RECORD_NAME, {"settings": read_settings(folder), "finished": True, **result})


def read_settings(folder: Path) -> dict[str, Any]:
    """The settings of a conversion that was started."""
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
    append_json_line(path, asdict(record))


def read_cases(path: Path) -> dict[str, CaseRecord]:
    """Name -> newest line of each case. A line cut off by a killed conversion is ignored."""
    records: dict[str, CaseRecord] = {}
    for fields in read_json_lines(path):
        try:
            lists = {key: tuple(value) for key, value in fields.items() if isinstance(value, list)}
            record = CaseRecord(**{**fields, **lists})
        except (TypeError, AttributeError):
            continue
        records[record.name] = record
    return records
