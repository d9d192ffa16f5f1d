"""The files that are written for each scan, and their names."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from stunet.errors import OutputError
from stunet.files import replacing_files_in, write_json
from stunet.imaging.formats.itksnap import write_itksnap_labels
from stunet.imaging.formats.registry import READERS, WRITERS, has_suffix, without_suffix
from stunet.imaging.formats.slicer import write_slicer_colours
from stunet.inference.segmentation import Segmentation, file_names


@dataclass(frozen=True)
class Outputs:
    """Which files are written for each scan.

    Attributes:
        separate: one mask per structure in a folder, instead of one label map.
        statistics: sizes, intensities and places, as JSON.
        preview: a picture.
        itksnap: names and colours for ITK-SNAP.
        probabilities: one map per structure, in a folder; `Predictor.predict` writes them while it works.
        slicer: names and colours for 3D Slicer.
    """

    separate: bool = False
    statistics: bool = False
    preview: bool = False
    itksnap: bool = False
    probabilities: bool = False
    slicer: bool = False

    def main_path(self, folder: Path, case: str) -> Path:
        """Where a case's labels go: a file, or a folder of masks."""
        return folder / (case if self.separate else f"{case}.nii.gz")

    def probability_folder(self, path: Path) -> Path | None:
        """The folder for the probabilities beside the labels at `path`; None where they are not wanted."""
        return beside(path, "probabilities") if self.probabilities else None

    def require_main_path(self, path: Path) -> None:
        """Raises UserError if labels cannot be written to this path."""
        if self.separate and (has_suffix(path, READERS) or path.is_file()):
            raise OutputError(f"{path}: one mask per structure needs a folder; give -o the name of one.")
        if not self.separate and not has_suffix(path, WRITERS):
            raise OutputError(
                f"{path}: a label map cannot be written in this format. Give -o a name that ends in one of "
                f"{', '.join(WRITERS)}, or an existing folder."
            )

    def paths(self, path: Path, structures: Mapping[int, str]) -> list[Path]:
        """All files that are written for a scan.

        Args:
            path: of the label map, or of the folder of masks.
            structures: label to structure, of those that are labelled.
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
            *([path / name for name in files] if self.separate else [path]),
            *(beside(path, ending) for ending, is_wanted in extras.items() if is_wanted),
            *([] if folder is None else [folder / name for name in files]),
        ]


def write_outputs(segmentation: Segmentation, path: Path, outputs: Outputs, title: str = "") -> list[Path]:
    """Write a segmentation and what goes with it. The labels come last: where they are, everything is.

    `Predictor.predict` has written the probabilities already.

    Args:
        segmentation: of one scan.
        path: of the label map, or of the folder of masks.
        outputs: what to write.
        title: of the picture.

    Returns:
        The paths, first that of the labels.

    Raises:
        UserError: a file that cannot be written.
    """
    written = [path]
    if outputs.statistics:
        statistics = {name: asdict(found) for name, found in segmentation.statistics().items()}
        written.append(beside(path, "statistics.json"))
        write_json(written[-1], statistics)
    if outputs.preview:
        from stunet.pictures.preview import save_preview  # brings torch, which checking names can do without

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
    else:
        segmentation.save(path)
    return written


def beside(path: Path, ending: str) -> Path:
    """The name of a file that goes with labels.

    >>> beside(Path("out/liver.nii.gz"), "report.json").name
    'liver.report.json'
    """
    return path.with_name(f"{without_suffix(path)}.{ending}")
