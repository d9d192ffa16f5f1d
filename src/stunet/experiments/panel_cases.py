"""Which scans and label files a qualitative figure shows, as a results file names them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from stunet.errors import FileError
from stunet.experiments.results import Results

PICTURES = "pictures"
"""Where the settings of a results file's provenance hold them."""


@dataclass(frozen=True)
class PanelCase:
    """One row of the figure.

    Attributes:
        case: its name among the cases of the measurements.
        title: beside the row, such as the dataset and the modality.
        image: the scan.
        reference: its labels by the experts.
        predictions: system to label file.
        names: label to structure; these are drawn.
        target: whose DSC is told; None is the mean over all that the results hold of the case.
    """

    case: str
    title: str
    image: Path
    reference: Path
    predictions: Mapping[str, Path]
    names: Mapping[int, str]
    target: str | None = None

    def to_setting(self, folder: Path) -> dict[str, Any]:
        """For the provenance of a results file in `folder`; paths below it are written relative to it."""
        return {
            **asdict(self),
            "image": _told(self.image, folder),
            "reference": _told(self.reference, folder),
            "predictions": {system: _told(path, folder) for system, path in self.predictions.items()},
            "names": {str(label): name for label, name in self.names.items()},
        }


def panel_cases_of(results: Results, folder: Path) -> list[PanelCase]:
    """The rows that a results file in `folder` names.

    Raises:
        UserError: it names none, or not as `PanelCase.to_setting` writes them.
    """
    pictures = results.provenance.settings.get(PICTURES)
    if not isinstance(pictures, Sequence) or not pictures:
        raise FileError(f"The results of {results.experiment} name no pictures to show (settings, '{PICTURES}').")
    try:
        return [_case(entry, folder) for entry in pictures]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise FileError(
            f"The pictures in the results of {results.experiment} are not as they should be ({error})."
        ) from error


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
    absolute, base = path.absolute(), folder.absolute()  # a link stays the link that it is
    return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)
