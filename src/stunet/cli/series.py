"""`stunet series`: list the DICOM series in a folder or zip, and which one would be segmented."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from stunet.cli.command import DONE, Options
from stunet.cli.output import MESSAGES, RESULTS, Switch, print_json
from stunet.errors import UserError

if TYPE_CHECKING:
    from stunet.imaging.formats.dicom.found import FoundSeries


@dataclass
class SeriesCommand(Options):
    """List the DICOM series in a folder, a zip or a file, or of a study on a DICOMweb server.

    Examples: stunet series dicom_folder
              stunet series export.zip --json
              stunet series dicomweb://HOST/studies/UID
    """

    path: Annotated[str, tyro.conf.arg(metavar="PATH"), tyro.conf.Positional]
    """A folder, searched with all its subfolders; a zip; a DICOM file; or the address of a study."""
    strict_geometry: Switch = False
    """Refuse tilted and unevenly spaced slices."""

    def run(self) -> int:
        """Read the headers, or ask the server, and print a table."""
        from stunet.imaging.formats.dicomweb.address import is_address

        return self._of_server() if is_address(self.path) else self._of_files()

    def _of_server(self) -> int:
        from stunet.imaging.formats.dicomweb.address import parse_address
        from stunet.imaging.formats.dicomweb.study import remote_table, series_of_study

        address = parse_address(self.path)
        if not address.study:
            raise UserError(f"{self.path}: names no study. Add /studies/UID.")
        found = series_of_study(address)
        if self.json:
            print_json({"path": str(address), "series": [asdict(one) for one in found]})
        else:
            RESULTS.print(remote_table(found), soft_wrap=True)
        return DONE

    def _of_files(self) -> int:
        from stunet.imaging.formats.dicom.choose import table_text
        from stunet.imaging.formats.dicom.found import find_series, nothing_found
        from stunet.imaging.formats.dicom.series import Reading

        found = find_series(self.path, Reading(self.strict_geometry))
        if not found.series:
            raise nothing_found(found)
        taken = _taken(found)
        if self.json:
            print_json(_as_json(found, taken))
            return DONE
        RESULTS.print(table_text(found.series), soft_wrap=True)
        for kind, count in found.passed.items():
            MESSAGES.print(f"Skipped: {count} x {kind}.")
        for modality, number in taken.items():
            what = "choose one with --series" if number is None else f"series {number} is taken"
            MESSAGES.print(f"stunet predict, with a model for {modality}: {what}.")
        return DONE


def _taken(found: "FoundSeries") -> dict[str, int | None]:
    """For each modality, the number of the series that is chosen by default; None if users must choose or it cannot be
    read."""
    from stunet.imaging.formats.dicom.choose import chosen_number

    modalities = sorted({one.modality for one in found.series})
    return {modality: chosen_number(found, modality) for modality in modalities}


def _as_json(found: "FoundSeries", taken: dict[str, int | None]) -> dict[str, Any]:
    series = [
        {
            "number": one.number,
            "uid": one.uid,
            "modality": one.modality,
            "description": one.stack.slices[0].facts.description,
            "slices": len(one.stack.slices),
            "spacing_mm": list(reversed(one.stack.spacing)),
            "kernel": one.stack.slices[0].facts.kernel,
            "phase": one.part,
            "folder": str(one.folder),
            "readable": not one.refusal,
            "against": list(one.remarks),
        }
        for one in found.series
    ]
    return {"path": str(found.path), "series": series, "passed": dict(found.passed), "taken": taken}
