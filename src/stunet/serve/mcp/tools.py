"""The tools, as plain functions: paths and names in, answers out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.batch.dicom_scans import DicomChoice
from stunet.batch.formats import is_result
from stunet.batch.outputs import Outputs, beside
from stunet.batch.prediction_record import FOLDER_REPORT, RECORD_ENDING, record_beside
from stunet.batch.request import request_for
from stunet.batch.saved_segmentation import read_segmentation
from stunet.imaging.formats.dicom.choose import UnclearChoiceError, choose, chosen_number, modality_of
from stunet.imaging.formats.dicom.found import find_series, nothing_found
from stunet.imaging.formats.registry import RESULT_SUFFIXES, has_suffix, read_volume
from stunet.inference.segmentation import Segmentation
from stunet.labels.ontology import LABELS
from stunet.serve.mcp.answers import Inspection, Measurement, Models, SeriesFound, StructureFound
from stunet.serve.mcp.engine import Engine
from stunet.serve.mcp.file_text import file_text
from stunet.serve.mcp.folders import Folders
from stunet.serve.mcp.refused import ToolRefusedError
from stunet.serve.own_voxels import ONE_FILE

if TYPE_CHECKING:
    from stunet.batch.predict_cases import CaseResult
    from stunet.imaging.formats.dicom.series import Series
    from stunet.inference.sliding import OnWindow
    from stunet.inference.statistics import StructureStatistics

NOT_A_DEVICE = "Not a medical device. Numbers and labels are for research, and somebody who can judge them looks first."

SEVERAL_SERIES = "Several DICOM series could be meant. `inspect` lists them; name one by its number in `series`."


class Tools:
    """What a language model may ask for.

    Args:
        folders: where it may read and write.
        engine: what segments.
    """

    def __init__(self, folders: Folders, engine: Engine):
        self._folders, self._engine = folders, engine

    def list_models(self) -> Models:
        """All models."""
        return Models(self._engine.models())

    def inspect(self, path: str) -> Inspection:
        """What lies at a path: an image, or DICOM series.

        Raises:
            UserError: nothing that can be read, or outside of the folders.
        """
        place = self._folders.scan(path)
        if has_suffix(place, ONE_FILE):
            volume = read_volume(place)
            return Inspection("image", list(volume.shape), _rounded(volume.spacing))
        found = find_series(place)
        if not found.series:
            raise nothing_found(found)
        return Inspection("dicom", series=[_series_found(one) for one in found.series], chosen=chosen_number(found))

    def segment(
        self,
        scan: str,
        output: str,
        model: str,
        structures: Sequence[str] = (),
        series: int | None = None,
        on_window: "OnWindow | None" = None,
    ) -> Measurement:
        """Write the labels of a scan, as `stunet predict` does, and measure them.

        Args:
            scan: an image, or DICOM.
            output: label map to write, a new file.
            model: its name.
            structures: the only ones; empty for all.
            series: number of a DICOM series; None for the only or plainly best.
            on_window: called after each window.

        Raises:
            UserError: a path outside of the folders, an output that is there, or what `stunet predict` refuses.
        """
        source, labels = self._folders.scan(scan), self._new_labels(output)
        segmenter = self._engine.segmenter(model, structures)
        choice = DicomChoice(None if series is None else str(series))
        results: list[CaseResult] = []
        try:
            request = request_for(source, labels, Outputs(), False, choice, lambda: segmenter.channels[0])
        except UnclearChoiceError:
            raise ToolRefusedError(SEVERAL_SERIES) from None
        request.predict(segmenter, on_window, lambda result, total: results.append(result))
        segmentation = results[0].segmentation
        assert segmentation is not None  # a single scan that fails raises
        return _measured(segmentation, labels)

    def measure(self, scan: str, labels: str, series: int | None = None) -> Measurement:
        """Volumes, mean values and what to check of labels that are there.

        Args:
            scan: an image, or DICOM.
            labels: label map on its grid. The record beside it has the names.
            series: number of a DICOM series; None for the only or plainly best.

        Raises:
            UserError: a path outside of the folders, files that cannot be read, or that do not lie on one grid.
        """
        source, place = self._folders.scan(scan), self._folders.scan(labels)
        for record in (beside(place, RECORD_ENDING), place.parent / FOLDER_REPORT):
            self._folders.inside(str(record))
        image = source if has_suffix(source, ONE_FILE) else _series_of(source, series)
        return _measured(read_segmentation(image, place, record_beside(place)), place)

    def _new_labels(self, output: str) -> Path:
        place = self._folders.new_file(output)
        if not is_result(place):
            raise ToolRefusedError(f"{output}: the name of a label map ends in one of {', '.join(RESULT_SUFFIXES)}.")
        self._folders.new_file(str(beside(place, RECORD_ENDING)))
        return place


def _series_of(source: Path, number: int | None) -> "Series":
    found = find_series(source)
    if number is None:
        try:
            return choose(found)
        except UnclearChoiceError:
            raise ToolRefusedError(SEVERAL_SERIES) from None
    series = found.numbered(number)
    if series is None:
        raise ToolRefusedError(f"There is no series {number} there. `inspect` lists the series.")
    return series


def _series_found(series: "Series") -> SeriesFound:
    facts = series.stack.slices[0].facts
    return SeriesFound(
        number=series.number,
        modality=modality_of(series.modality) or "other",
        slices=len(series.stack.slices),
        spacing_mm=_rounded(series.stack.spacing),
        suitable=not series.refusal,
        untrusted_text_of_the_file=file_text(
            description=facts.description, kernel=facts.kernel, remarks="; ".join(series.remarks)
        ),
    )


def _measured(segmentation: Segmentation, labels: Path) -> Measurement:
    statistics = segmentation.statistics()
    warnings = segmentation.structure_warnings(statistics)
    value_of = {name: value for value, name in segmentation.names.items()}
    return Measurement(
        labels=str(labels),
        structures=[
            _structure(value_of[name], name, found, warnings.get(name, ())) for name, found in statistics.items()
        ],
        not_a_medical_device=NOT_A_DEVICE,
        untrusted_text_of_the_file=file_text(warnings=" ".join(segmentation.warnings)),
    )


def _structure(value: int, name: str, found: "StructureStatistics", check: Sequence[str]) -> StructureFound:
    """A name that stunet knows is no text of a stranger."""
    is_known = name in LABELS
    return StructureFound(
        value=value,
        name=name if is_known else f"label {value}",
        volume_mm3=round(found.volume_mm3, 3),
        voxels=found.voxels,
        mean=round(found.mean, 4),
        centroid_mm=_rounded(found.centroid_mm),
        check=list(check) if is_known else [],
        untrusted_text_of_the_file=file_text() if is_known else file_text(name=name, check=" ".join(check)),
    )


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(float(value), 4) for value in values]
