"""The files written for each scan, and their names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from stunet.batch.formats import LabelFile, ending_of, is_result, label_files
from stunet.errors import OutputError, UserError
from stunet.files import replacing_files_in, require_short_name, write_json
from stunet.imaging.formats.dicom_results import DicomDetails, require_dicom_results
from stunet.imaging.formats.itksnap import write_itksnap_labels
from stunet.imaging.formats.registry import READERS, RESULT_SUFFIXES, has_suffix, without_suffix
from stunet.imaging.formats.slicer import write_slicer_colours
from stunet.imaging.volume import Volume
from stunet.inference.segmentation import Segmentation, file_names
from stunet.labels.codes import require_known

if TYPE_CHECKING:
    from stunet.inference.predictor import Predictor


@dataclass(frozen=True)
class Outputs:
    """The files to write for each scan.

    Attributes:
        separate: one mask per structure in a folder, instead of one label map.
        statistics: sizes, intensities and positions, as JSON.
        preview: a picture.
        itksnap: names and colours for ITK-SNAP.
        probabilities: one map per structure, in a folder. `Predictor.predict` writes them while it works.
        slicer: names and colours for 3D Slicer.
        formats: of the labels, names in `stunet.batch.formats.FORMATS`; if empty, the output's name decides (NIfTI in
            a folder of many).
        dicom: codes, and the DICOM series of a scan in another format.
    """

    separate: bool = False
    statistics: bool = False
    preview: bool = False
    itksnap: bool = False
    probabilities: bool = False
    slicer: bool = False
    formats: tuple[str, ...] = ()
    dicom: DicomDetails = field(default_factory=DicomDetails)

    def main_path(self, folder: Path, case: str) -> Path:
        """The path of a case's labels: a file, or a folder of masks."""
        return folder / (case if self.separate else f"{case}{ending_of(self.formats)}")

    def label_files(self, path: Path) -> list[LabelFile]:
        """The label files of a case, the main one first; none if each structure has its own mask."""
        return [] if self.separate else label_files(path, self.formats)

    def probability_folder(self, path: Path) -> Path | None:
        """The folder for probabilities next to the labels at `path`; None if they are not requested."""
        return beside(path, "probabilities") if self.probabilities else None

    def require_main_path(self, path: Path) -> None:
        """Raise UserError if labels cannot be written to this path."""
        if self.separate and (has_suffix(path, READERS) or path.is_file()):
            raise OutputError(f"{path}: one mask per structure needs a folder; give -o the name of one.")
        if not self.separate and not is_result(path):
            raise OutputError(
                f"{path}: a label map cannot be written in this format. Give -o a name that ends in one of "
                f"{', '.join(RESULT_SUFFIXES)}, or an existing folder."
            )
        self.label_files(path)

    def require_consistent(self, path: Path, many: bool) -> None:
        """Raise UserError for options that contradict each other.

        Args:
            path: of the labels of one case.
            many: whether there are several cases.
        """
        if self.separate and self.formats:
            raise UserError("--separate writes NIfTI masks. Leave --format out.")
        is_dicom = any(one.kind for one in self.label_files(path))
        if not is_dicom and (self.dicom.codes or self.dicom.reference):
            raise UserError("--codes and --reference are for DICOM results. Add --format dicom-seg or rtstruct.")
        if many and self.dicom.reference:
            raise UserError("--reference is for a single scan. Segment the scans one by one, or their DICOM series.")

    def require_scan(self, path: Path, scan: Volume) -> None:
        """Raise UserError if the labels of a scan cannot be written to this path."""
        for one in self.label_files(path):
            if one.kind is not None:
                require_dicom_results(one.kind, scan, self.dicom)

    def require_model(self, path: Path, predictor: "Predictor") -> None:
        """Raise UserError if the model's structures cannot be written to this path."""
        require_known(self.dicom.codes, predictor.model.names.values())
        overlap = any(set(labels) != {label} for label, labels in predictor.members.items())
        if overlap and any(one.kind == "labelmap" for one in self.label_files(path)):
            raise OutputError(
                f"{path}: structures of model {predictor.model.card.name!r} overlap, which a label map in DICOM cannot "
                "hold. Write --format dicom-seg-binary."
            )

    def require_short_names(self, path: Path) -> None:
        """Raise UserError if a file or folder next to the labels at `path` has too long a name."""
        for output in (path, self.probability_folder(path) or path, *self.paths(path, {})):
            require_short_name(output)

    def paths(self, path: Path, structures: Mapping[int, str]) -> list[Path]:
        """All files to write for a scan.

        Args:
            path: of the label map, or of the folder of masks.
            structures: label -> structure, of the structures to write.
        """
        files = [f"{name}.nii.gz" for name in file_names(structures).values()]
        extras = {
            "statistics.json": self.statistics,
            "preview.png": self.preview,
            "itksnap.txt": self.itksnap,
            "ctbl": self.slicer,
        }
        folder = self.probability_folder(path)
        return [
            *([path / name for name in files] if self.separate else [one.path for one in self.label_files(path)]),
            *(beside(path, ending) for ending, is_wanted in extras.items() if is_wanted),
            *([] if folder is None else [folder / name for name in files]),
        ]


def write_outputs(segmentation: Segmentation, path: Path, outputs: Outputs, title: str = "") -> list[Path]:
    """Write a segmentation and its other outputs. The labels are written last, so their presence means completeness.

    `Predictor.predict` has already written the probabilities.

    Args:
        segmentation: of one scan.
        path: of the label map, or of the folder of masks.
        outputs: what to write.
        title: of the picture.

    Returns:
        The paths, labels first.

    Raises:
        UserError: a file cannot be written.
    """
    written = [path]
    if outputs.statistics:
        statistics = {name: asdict(found) for name, found in segmentation.statistics().items()}
        written.append(beside(path, "statistics.json"))
        write_json(written[-1], statistics)
    if outputs.preview:
        from stunet.pictures.preview import save_preview  # imports torch, which is not needed to check names

        written.append(beside(path, "preview.png"))
        save_preview(written[-1], segmentation.scan, segmentation.labels, segmentation.names, title=title)
    if outputs.itksnap:
        written.append(beside(path, "itksnap.txt"))
        write_itksnap_labels(written[-1], segmentation.names)
    if outputs.slicer:
        written.append(beside(path, "ctbl"))
        write_slicer_colours(written[-1], segmentation.names)
    if (probabilities := outputs.probability_folder(path)) is not None:
        written.append(probabilities)
    if outputs.separate:
        with replacing_files_in(path) as temporary:
            segmentation.save_structures(temporary)
    for one in reversed(outputs.label_files(path)):
        one.write(segmentation, outputs.dicom)
        written += [one.path] if one.path != path else []
    return written


def beside(path: Path, ending: str) -> Path:
    """The name of a file that accompanies labels.

    >>> beside(Path("out/liver.nii.gz"), "report.json").name
    'liver.report.json'
    """
    return path.with_name(f"{without_suffix(path)}.{ending}")
