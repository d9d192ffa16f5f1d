"""The scans and label files of a qualitative figure, as recorded in a results file."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stunet.errors import FileError
from stunet.experiments.results import Results

PICTURES = "pictures"
"""Key of the cases in the provenance settings of a results file."""


@dataclass(frozen=True)
class PanelCase:
    """One row of the figure.

    Attributes:
        case: its name among the cases of the measurements.
        title: printed next to the row, such as the dataset and the modality.
        image: the scan.
        reference: its labels by the experts.
        predictions: system -> label file.
        names: label -> structure, for the structures to draw.
        target: the target whose DSC is shown; None is the mean over all targets of the case.
    """

    case: str
    title: str
    image: Path
    reference: Path
    predictions: Mapping[str, Path]
    names: Mapping[int, str]
    target: str | None = None

    def to_setting(self, folder: Path) -> dict[str, Any]:
        """An entry for the provenance of a results file in `folder`. Paths below it are made relative."""
        return {
            **asdict(self),
            "image": _told(self.image, folder),
            "reference": _told(self.reference, folder),
            "predictions": {system: _told(path, folder) for system, path in self.predictions.items()},
            "names": {str(label): name for label, name in self.names.items()},
        }


def panel_cases_of(results: Results, folder: Path) -> list[PanelCase]:
    """The rows that a results file in `folder` lists.

    Raises:
        UserError: it lists none, or not in the format of `PanelCase.to_setting`.
    """
    pictures = results.provenance.settings.get(PICTURES)
    if not isinstance(pictures, Sequence) or not pictures:
        raise FileError(f"The results of {results.experiment} have no pictures to show (settings, '{PICTURES}').")
    try:
        return [_case(entry, folder) for entry in pictures]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise FileError(f"The pictures in the results of {results.experiment} are damaged ({error}).") from error


def _case(entry: Mapping[str, Any], folder: Path) -> PanelCase:
    return PanelCase(
        case=entry["case"],
        title=entry["title"],
        image=folder / entry["image"],
        reference=folder / entry["reference"],
        predictions={system: folder / path for system, path in entry["predictions"].items()},
        names={int(label): name for label, name in entry["names"].items()},
        target=entry.get("target"),
    )


def _told(path: Path, folder: Path) -> str:
    absolute, base = path.absolute(), folder.absolute()  # does not resolve links
    return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)
