"""The results file of an experiment: measurements, the paper's values, and the provenance.

Tables and figures are made from this file alone.
"""

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from stunet.errors import FileError
from stunet.files import made_folder, read_json_object, write_json

Setting = Mapping[str, str | int | float | bool | None]
"""Distinguishes a measurement from others of the same system, e.g. {"fraction": 0.1}."""

SYSTEM_VERSIONS = ("stunet", "torch", "numpy", "scipy", "nnunetv2", "monai")
"""Packages whose versions a results file records. Those that are not installed are left out."""


@dataclass(frozen=True)
class Measurement:
    """One number.

    Attributes:
        system: what was measured, as the paper names it: "STU-Net-B", "STU-Net-S, fine-tuned".
        metric: "DSC", "NSD", "HD95 (mm)", "parameters (M)", "mult-adds (T)", "MACs (T)". DSC and NSD are fractions.
        value: None if it is undefined (an absent structure) or not measured.
        target: the structure, group of structures or dataset; None if not applicable.
        setting: further distinctions.
        paper: the paper's number in the same unit (a DSC of 87.12 % is 0.8712); None if it prints none.
        paper_decimals: number of decimals in the paper in that unit (4 for 0.8712).
        source: place in the paper, e.g. "Table 5".
        cases: the value of each case, None if undefined; empty if there are no cases.
    """

    system: str
    metric: str
    value: float | None
    target: str | None = None
    setting: Setting = field(default_factory=dict)
    paper: float | None = None
    paper_decimals: int | None = None
    source: str | None = None
    cases: Mapping[str, float | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        numbers = [self.value, self.paper, *self.cases.values()]
        if any(number is not None and not math.isfinite(number) for number in numbers):
            raise ValueError(f"a number that is not defined is None in a measurement, not nan or infinite: {self}")

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's; None if one of them is missing."""
        return None if self.value is None or self.paper is None else self.value - self.paper

    @property
    def agrees(self) -> bool | None:
        """Whether it equals the paper's number to its last digit; None without a number in the paper."""
        if self.difference is None or self.paper_decimals is None:
            return None
        return equals_as_printed(self.value or 0.0, self.paper or 0.0, self.paper_decimals)


@dataclass(frozen=True)
class Provenance:
    """How a results file was made.

    Attributes:
        versions: of the relevant packages.
        machine: processor, system, accelerator.
        date: of the end, ISO 8601 with time zone.
        settings: all settings of the experiment.
        seconds: total time, including resumed runs.
    """

    versions: Mapping[str, str]
    machine: Mapping[str, str]
    date: str
    settings: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Results:
    """One experiment's results.

    Attributes:
        experiment: the recipe's name, "table5".
        profile: "full" or "mini".
        provenance: how they were made.
        measurements: in the order of the tables.
        remarks: sentences to print with every table or figure.
    """

    experiment: str
    profile: str
    provenance: Provenance
    measurements: tuple[Measurement, ...]
    remarks: tuple[str, ...] = ()


def file_name_of(results: Results) -> str:
    """Name of tables and figures without suffix: "table5", or "table5_mini" for another profile than full."""
    return results.experiment if results.profile == "full" else f"{results.experiment}_{results.profile}"


def equals_as_printed(value: float, printed: float, decimals: int) -> bool:
    """Whether `value` is within half a unit of the last digit of a number printed with `decimals`.

    >>> equals_as_printed(0.5071, 0.51, 2), equals_as_printed(0.4865, 0.54, 2)
    (True, False)
    """
    return abs(value - printed) <= 0.5 * 10**-decimals + 1e-9


def provenance_now(settings: Mapping[str, Any], seconds: float) -> Provenance:
    """The provenance of results just measured on this machine."""
    import torch

    accelerator = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    machine = {"processor": platform.machine(), "system": platform.system(), "accelerator": accelerator}
    date = datetime.now(timezone.utc).astimezone().isoformat(timespec="seconds")
    return Provenance(_versions(), machine, date, dict(settings), round(seconds, 1))


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in SYSTEM_VERSIONS:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def write_results(path: Path, results: Results) -> None:
    """Write a results file, whole or not at all.

    Raises:
        UserError: the folder cannot be written.
    """
    made_folder(path.parent)
    write_json(path, asdict(results))


def read_results(path: Path) -> Results:
    """Read a results file.

    Raises:
        UserError: it cannot be read, or is not a results file.
    """
    content = read_json_object(path)
    try:
        known = _checked_fields(Results, content)
        return Results(
            known["experiment"],
            known["profile"],
            Provenance(**_checked_fields(Provenance, known.get("provenance"))),
            tuple(measurement_of(entry) for entry in known["measurements"]),
            tuple(known.get("remarks", ())),
        )
    except (TypeError, ValueError, KeyError) as error:
        raise FileError(f"{path} is not a results file of `stunet experiment run` ({error}).") from error


def measurement_of(content: Any) -> Measurement:
    """Parse one entry of a results file.

    Raises:
        ValueError: it is not a measurement.
    """
    known = _checked_fields(Measurement, content)
    if not all(isinstance(value, float | int | None) for value in known.get("cases", {}).values()):
        raise ValueError(f"the cases of {known['system']!r} have a value that is not a number")
    return Measurement(**known)


_TEXT, _NUMBER = str | None, float | int | None

_TYPES: dict[type, dict[str, Any]] = {
    Measurement: {
        **{"system": str, "metric": str, "target": _TEXT, "source": _TEXT, "setting": dict, "cases": dict},
        **{"value": _NUMBER, "paper": _NUMBER, "paper_decimals": _NUMBER},
    },
    Provenance: {"versions": dict, "machine": dict, "settings": dict, "date": str, "seconds": float | int},
    Results: {"experiment": str, "profile": str, "provenance": object, "measurements": list, "remarks": list},
}
"""The JSON type of each field of a results file."""


def _checked_fields(kind: type, content: Any) -> dict[str, Any]:
    """`content`, if it is an object whose names are all fields of `kind`, with the right types."""
    if not isinstance(content, dict):
        raise ValueError(f"a {kind.__name__} should be an object, not {content!r}")
    foreign = sorted(set(content) - set(_TYPES[kind]))
    if foreign:
        raise ValueError(f"a {kind.__name__} has no {', '.join(foreign)}")
    for name, value in content.items():
        if not isinstance(value, _TYPES[kind][name]):
            raise ValueError(f"{name} should not be {value!r}")
    return content
